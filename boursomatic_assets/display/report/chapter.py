"""One chapter of the report: an evaluation of one span of sessions, and its charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.figures import (
    books_chart,
    cost_chart,
    decile_chart,
    rank_ic_by_year_chart,
    rank_ic_chart,
    reliability_chart,
)
from boursomatic_assets.display.report.filters import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.display.report.canvas import Chart

# Window that smooths rank IC, in horizons. A shorter one would show mostly the overlap of the returns.
HORIZONS_SMOOTHED = 3
_SCOPES = {
    "walk-forward": ("walk_forward", "Walk-forward: the record of skill"),
    "test set": ("test_set", "Test set"),
}


@dataclass(frozen=True)
class Chapter:
    """Values for the template `chapter.html`. `name` is the heading's id; a chart is None if it would be empty."""

    judged: Mapping[str, Any]
    name: str
    title: str
    short_title: str
    span: str
    size: str
    charts: Mapping[str, Chart | None]


def chapter_of(judged: Mapping[str, Any]) -> Chapter:
    """Prepare an evaluation for the page. Any key may be missing."""
    scope = str(judged.get("scope") or "test set")
    name, title = _SCOPES.get(scope, (scope.replace(" ", "_"), scope.capitalize()))
    counts = [(judged.get(each), each) for each in ("sessions", "rows", "symbols")]
    curves = judged.get("curves") or {}
    window = HORIZONS_SMOOTHED * int(judged.get("horizon") or 1)
    return Chapter(
        judged,
        name,
        title,
        short_title=title.partition(":")[0],
        span=f"{judged.get('first_session') or '?'} to {judged.get('last_session') or '?'}",
        size=", ".join(f"{whole_number(many)} {each if many != 1 else each[:-1]}" for many, each in counts),
        charts={
            "books": books_chart(f"{name}_books", curves.get("books") or {}),
            "ic": rank_ic_chart(f"{name}_ic", curves.get("rank_ic") or {}, window),
            "years": rank_ic_by_year_chart(f"{name}_years", curves.get("rank_ic_by_year") or ()),
            "reliability": reliability_chart(f"{name}_reliability", curves.get("reliability") or ()),
            "deciles": decile_chart(f"{name}_deciles", curves.get("precision_by_decile") or ()),
            "costs": cost_chart(f"{name}_costs", curves.get("cost_sweep") or ()),
        },
    )
