"""What the charts of the report share: how plotly is told of them, quiet axes, colours that follow the scheme.

Plotly itself is not imported: what is drawn is drawn by the page. A colour is named as `var:--buy` and looked up by
the page in its style sheet, so that charts follow the reader's light or dark scheme. Titles, keys and captions are
the page's own text, which wraps where the window is narrow.
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
    """How one series looks everywhere, and whether it is there before the reader asks for it."""

    group: str
    label: str
    colour: str
    dash: str = "solid"
    shown: bool = True


@dataclass(frozen=True)
class Chart:
    """One chart of the page: what plotly draws, and the words around it.

    Attributes
    ----------
    name : str
        Unique in the page; its element's id.
    title, caption : str
        Plain text.
    data : list of dict
        Plotly's traces; each names its line as `legendgroup`.
    layout : dict
        Plotly's layout.
    lines : tuple of Line
        The key.
    """

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    lines: tuple[Line, ...] = ()


def shortened(name: str, most: int = CHARACTERS_OF_A_NAME) -> str:
    """Cut a name that would leave no room for anything else."""
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Five significant digits are more than a chart shows; the page stays small."""
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]


def axis(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 (plotly's own settings)
    """A quiet axis; settings are plotly's."""
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
    """What all charts share."""
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
    """A line across a chart at a value that means something."""
    across, along = ("y", "x") if vertical else ("x", "y")
    place = {f"{across}0": 0, f"{across}1": 1, f"{along}0": value, f"{along}1": value, f"{across}ref": "paper"}
    return {"type": "line", **place, "line": {"color": FAINT, "width": 1}, "layer": "below"}
