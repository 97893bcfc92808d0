"""Render templates as HTML documents that load nothing.

Templates escape every value. Only `base.html` inserts text unescaped: this package's style sheet and scripts.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.trace.tree import shown
from boursomatic_assets.display.report import filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from boursomatic_assets.display.report.canvas import Chart

# Lists of at least 20 texts, such as dates, are written once for all charts.
SHARED_FROM = 20


def render(template: str, charts: Sequence[Chart] = (), **values: object) -> str:
    """Render a page with its style sheet, its charts and the scripts that draw them."""
    scripts = [_own("plotly-basic.min.js"), _own("report.js")] if charts else []
    page = environment().get_template(template)
    return page.render(style=_own("report.css"), scripts=scripts, figures=_figures(charts), **values)


@cache
def environment() -> Environment:
    """Environment of the templates: escaping is on, missing values are errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("boursomatic_assets.display.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Keys keep their order; NaN is not JSON.
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    used = (
        filters.by_cost, filters.decimals_for, filters.decimals_of_differences, filters.grouped, filters.in_words,
        filters.notes, filters.number, filters.p_value, filters.sentence, filters.value_of, filters.whole_number,
        filters.words, shown, sha256_base64,
    )  # fmt: skip
    templates.filters.update({each.__name__: each for each in used})
    templates.tests["detail"] = filters.is_detail
    templates.globals.update(interval=filters.interval, zip=zip)
    return templates


@cache
def sha256_base64(text: str) -> str:
    """Digest of a script, as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figures(charts: Sequence[Chart]) -> dict[str, Any]:
    """Charts as `report.js` reads them."""
    lists: dict[tuple[str, ...], int] = {}
    figures = {
        chart.name: {
            "data": _sharing(chart.data, lists),
            "layout": chart.layout,
            "hidden": [line.group for line in chart.lines if not line.shown],
        }
        for chart in charts
    }
    return {"figures": figures, "lists": list(lists)}


def _sharing(value: Any, lists: dict[tuple[str, ...], int]) -> Any:  # noqa: ANN401 (any JSON)
    """Replace each long list of texts by its index among the shared lists."""
    if isinstance(value, dict):
        return {name: _sharing(item, lists) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) >= SHARED_FROM and all(isinstance(item, str) for item in value):
        return {"list": lists.setdefault(tuple(value), len(lists))}
    return [_sharing(item, lists) for item in value]


@cache
def _own(name: str) -> str:
    return resources.files("boursomatic_assets.display.report").joinpath(name).read_text(encoding="utf-8")
