"""The page that the report is written on: one HTML document with all it needs, that asks for nothing else.

Every text goes through `escaped`; scripts are allowed by their digest only, so that no text could become one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boursomatic_assets.display.report.canvas import Chart, Line

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
PERCENT = f"{SPACE}%"
# A list of at least so many texts is written once, however many lines of a chart share it.
SHARED_FROM = 20
STRIP_WIDTH, STRIP_HEIGHT, STRIP_EDGE = 120, 16, 6
_DASHES = {"dash": "6 3", "dot": "1.5 3", "dashdot": "6 3 1.5 3", "longdash": "9 3", "longdashdot": "9 3 1.5 3"}


def escaped(value: object) -> str:
    """Any value as text of the page."""
    return escape(str(value), quote=True)


def decimals_for(values: Iterable[float | None], unit: str = "number") -> int:
    """Decimals that show about three digits of the largest of some figures that stand side by side."""
    known = [value for value in values if value is not None]
    if unit != "percent" and all(float(value).is_integer() for value in known):
        return 0
    factor = 100 if unit == "percent" else 1
    largest = max((abs(value) * factor for value in known), default=0.0)
    steps = ((10, 1), (1, 1), (0, 2)) if unit == "percent" else ((100, 0), (10, 1), (0.1, 3), (0, 4))
    return next(decimals for from_here, decimals in steps if largest >= from_here)


def number(value: float | None, unit: str = "number", decimals: int | None = None) -> str:
    """Write a figure for people: a fraction as percent where that is its unit, a dash where there is none."""
    if value is None:
        return DASH
    places = decimals_for([value], unit) if decimals is None else decimals
    text = f"{abs(value) * (100 if unit == 'percent' else 1):,.{places}f}"
    is_zero = not text.strip("0.,")
    return f"{MINUS if value < 0 and not is_zero else ''}{text}{PERCENT if unit == 'percent' else ''}"


def count(value: float | None) -> str:
    """A number of things."""
    return DASH if value is None else f"{value:,.0f}"


def p_value(value: float | None) -> str:
    """A p-value; below a thousandth its digits say nothing."""
    if value is None:
        return DASH
    return f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004


def sentence(text: str) -> str:
    """A remark as a sentence: with a capital, and an end."""
    said = text.strip()
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith(('.', '!', '?')) else '.'}" if said else ""


def cell(text: str, kind: str = "number", **attributes: object) -> str:
    """A cell of a table, its text escaped."""
    return element("td", escaped(text), **_classed(kind, attributes))


def heading(text: str, scope: str, kind: str = "", **attributes: object) -> str:
    """A heading of a row, a column or a group of rows, its text escaped."""
    return element("th", escaped(text), **_classed(kind, {"scope": scope, **attributes}))


def _classed(kind: str, attributes: dict[str, object]) -> dict[str, object]:
    return {"class": kind, **attributes} if kind else attributes


def element(tag: str, inside: str, **attributes: object) -> str:
    """An element around HTML, its attributes escaped."""
    named = "".join(f' {name}="{escaped(value)}"' for name, value in attributes.items())
    return f"<{tag}{named}>{inside}</{tag}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return element("p", escaped(text), **_classed(kind, {}))


def table(caption: str, columns: Sequence[tuple[str, str]], bodies: Sequence[Sequence[str]], kind: str = "") -> str:
    """Write a table in a box of its own, in which it scrolls where the window is narrow.

    Parameters
    ----------
    caption : str
        Plain text.
    columns : sequence of (str, str)
        Heading and kind (`text`, `number` or `strip`) of each column.
    bodies : sequence of sequence of str
        Groups of rows; a row is its cells as HTML.
    kind : str
        Class of the table.
    """
    head = "".join(heading(title, "col", of) for title, of in columns)
    groups = "".join(f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody>" for rows in bodies if rows)
    words = element("caption", element("span", escaped(caption)))
    inside = element("table", f"{words}<thead><tr>{head}</tr></thead>{groups}", **_classed(kind, {}))
    # A box that scrolls must be reachable by keyboard.
    return element("div", inside, **{"class": "scroll", "tabindex": 0, "role": "group", "aria-label": caption})


def strip(value: float | None, low: float | None, high: float | None, none: float | None) -> str:
    """A figure's interval as a line, its value as a dot, no skill as an upright; on the row's own scale."""
    known = [mark for mark in (value, low, high, none) if mark is not None]
    if value is None or low is None or high is None:
        return element("td", "", **{"class": "strip"})
    least, width = min(known), (max(known) - min(known)) or 1.0
    at = {
        name: round(STRIP_EDGE + (mark - least) / width * (STRIP_WIDTH - 2 * STRIP_EDGE), 1)
        for name, mark in (("value", value), ("low", low), ("high", high), ("none", none))
        if mark is not None
    }
    middle = STRIP_HEIGHT / 2
    drawn = (
        f'<line class="rail" x1="0" x2="{STRIP_WIDTH}" y1="{middle}" y2="{middle}"/>'
        f'<line class="span" stroke-width="3" x1="{at["low"]}" x2="{at["high"]}" y1="{middle}" y2="{middle}"/>'
    )
    if "none" in at:
        drawn += f'<line class="none" x1="{at["none"]}" x2="{at["none"]}" y1="1" y2="{STRIP_HEIGHT - 1}"/>'
    drawn += f'<circle class="value" cx="{at["value"]}" cy="{middle}" r="4"/>'
    size = {"width": STRIP_WIDTH, "height": STRIP_HEIGHT, "viewBox": f"0 0 {STRIP_WIDTH} {STRIP_HEIGHT}"}
    return element("td", element("svg", drawn, **{**size, "aria-hidden": "true"}), **{"class": "strip"})


def figure(chart: Chart | None, nothing: str, numbers: str = "") -> str:
    """A chart with its words, its key, and the numbers behind it; or a line that says why there is none."""
    if chart is None:
        return paragraph(nothing, "nothing")
    words = f"<strong>{escaped(chart.title)}.</strong> {escaped(chart.caption)}"
    plot = element("div", "", **{"class": "plot", "id": chart.name, "style": f"height:{chart.layout['height']}px"})
    behind = f"<details><summary>The numbers</summary>{numbers}</details>" if numbers else ""
    return element("figure", element("figcaption", words) + _key(chart) + plot + behind)


def _key(chart: Chart) -> str:
    return (
        element("ul", "".join(_key_entry(chart, line) for line in chart.lines), **{"class": "key"})
        if chart.lines
        else ""
    )


def _key_entry(chart: Chart, line: Line) -> str:
    colour = line.colour.removeprefix("var:")
    dashes = f' stroke-dasharray="{_DASHES[line.dash]}"' if line.dash in _DASHES else ""
    sample = (
        '<svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" '
        f'stroke="var({escaped(colour)})" stroke-width="3"{dashes}/></svg>'
    )
    button = {"type": "button", "data-figure": chart.name, "data-group": line.group}
    inside = sample + element("span", escaped(line.label))
    return element("li", element("button", inside, **{**button, "aria-pressed": "true" if line.shown else "false"}))


def section(name: str, title: str, inside: str) -> str:
    """A part of the page under a heading that can be linked to."""
    head = element("h2", escaped(title), id=name)
    return element("section", head + inside, **{"aria-labelledby": name})


def document(title: str, body: str, charts: Sequence[Chart]) -> str:
    """Put the page together: styles, charts and plotly within; nothing else can be loaded or run."""
    scripts = [_plotly(), _own("report.js")] if charts else []
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        # Without one, a browser would look for an icon.
        f'<link rel="icon" href="data:,"><title>{escaped(title)}</title><style>{_own("report.css")}</style>'
    )
    without = '<noscript><p class="note">The charts need JavaScript; the tables say the same.</p></noscript>'
    described = f'<script type="application/json" id="figures">{_embedded(charts)}</script>'
    run = "".join(f"<script>{script}</script>" for script in scripts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{without}{body}{described}{run}</body></html>\n'
    )


def _embedded(charts: Sequence[Chart]) -> str:
    """Charts as JSON in which no text can end the element that holds it."""
    lists: dict[tuple[str, ...], int] = {}
    figures = {
        chart.name: {
            "data": _sharing(chart.data, lists),
            "layout": chart.layout,
            "hidden": [line.group for line in chart.lines if not line.shown],
        }
        for chart in charts
    }
    text = json.dumps({"figures": figures, "lists": list(lists)}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sharing(value: Any, lists: dict[tuple[str, ...], int]) -> Any:  # noqa: ANN401 (any JSON)
    """Replace each long list of texts by its place among the lists."""
    if isinstance(value, dict):
        return {name: _sharing(item, lists) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) >= SHARED_FROM and all(isinstance(item, str) for item in value):
        return {"list": lists.setdefault(tuple(value), len(lists))}
    return [_sharing(item, lists) for item in value]


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def _own(name: str) -> str:
    return resources.files("boursomatic_assets.display.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
