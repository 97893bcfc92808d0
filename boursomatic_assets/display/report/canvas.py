"""What the charts of the report share: plotly's traces and axes, and colours from the page's style sheet.

The page draws the charts; plotly is not imported. A colour such as `var:--buy` names a variable of the style sheet,
so that charts follow the light or dark scheme.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

INK, FAINT, GRID, CARD = "var:--ink", "var:--faint", "var:--grid", "var:--card"
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
DIGITS = 5
CHARACTERS_OF_A_NAME = 40


@dataclass(frozen=True)
class Line:
    """The look of a series in every chart, and whether it is drawn at first."""

    group: str
    label: str
    colour: str
    dash: str = "solid"
    shown: bool = True


@dataclass(frozen=True)
class Chart:
    """One chart of the page: plotly's traces and layout, title, caption and key.

    `name` is unique in the page: it is the element's id. Each trace names its line as `legendgroup`.
    """

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    lines: tuple[Line, ...] = ()


def shortened(name: str, most: int = CHARACTERS_OF_A_NAME) -> str:
    """Cut a long name with an ellipsis."""
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Round to five significant digits: the page stays small."""
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]


def axis(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 (plotly's own settings)
    """Plotly's axis with quiet colours."""
    return {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "ticks": "",
        "tickfont": {"size": 12, "color": FAINT},
        **settings,
    }


def layout(height: int, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
    """Plotly's layout, as all charts share it."""
    return {
        "height": height,
        "autosize": True,
        "showlegend": False,
        "margin": {"l": 8, "r": 12, "t": 10, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": _FONT, "size": 12, "color": FAINT},
        "hoverlabel": {"bgcolor": CARD, "bordercolor": FAINT, "font": {"color": INK, "family": _FONT}},
        "xaxis": axis(),
        "yaxis": axis(),
        **settings,
    }


def titled(text: str, standoff: int = 8) -> dict[str, Any]:
    """An axis title."""
    return {"text": text, "font": {"size": 12, "color": FAINT}, "standoff": standoff}


def level(value: float, *, vertical: bool = False) -> dict[str, Any]:
    """A line across a chart at a value."""
    across, along = ("y", "x") if vertical else ("x", "y")
    place = {f"{across}0": 0, f"{across}1": 1, f"{along}0": value, f"{along}1": value, f"{across}ref": "paper"}
    return {"type": "line", **place, "line": {"color": FAINT, "width": 1}, "layer": "below"}
