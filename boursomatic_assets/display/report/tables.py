"""Arrange figures for the tables of the report; the templates' filters. Any key may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.figures import book_line
from boursomatic_assets.display.report.formats import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, Any]

_GROUPS = {
    "ranking": "Ranking",
    "classification": "Classification",
    "calibration": "Calibration",
    "portfolio": "Portfolio",
    "regression": "Forecast of the return",
}
# Endings of names of details. Any other figure is a main one.
_DETAILS = (
    "icir", "_hold", "_sell", "recall_buy", "f1_buy", "brier", "rmse", "mae", "_newey_west_t",
    "_probabilistic_sharpe", "_lo_sharpe_ratio", "_total_return", "_annual_volatility", "_hit_rate", "_turnover",
    "_exposure", "rank_ic_deviation", "rank_ic_t",
)  # fmt: skip


def is_detail(figure: Row) -> bool:
    """Whether a figure explains a main one and is folded."""
    return str(figure.get("name")).endswith(_DETAILS)


def grouped(figures: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Titles of the groups that have figures, with these figures; unknown groups last."""
    groups: dict[str, list[Row]] = {group: [] for group in _GROUPS}
    for figure in figures:
        groups.setdefault(str(figure.get("group")), []).append(figure)
    return [(_GROUPS.get(group, group), members) for group, members in groups.items() if members]


def value_of(figures: Sequence[Row], name: str) -> float | None:
    """Value of the figure of this name, if there is one."""
    return next((figure.get("value") for figure in figures if figure.get("name") == name), None)


def by_cost(sweep: Sequence[Row]) -> tuple[list[str], list[tuple[float, list[Row]]]]:
    """Labels of the books, and for each cost the entry of each book."""
    books = list(dict.fromkeys(str(part.get("book")) for part in sweep))
    found = {(part.get("cost_bps"), str(part.get("book"))): part for part in sweep}
    costs = sorted({cost for cost, _ in found if cost is not None})
    rows = [(cost, [found.get((cost, book), {}) for book in books]) for cost in costs]
    return [book_line(book).label for book in books], rows


def notes(comparisons: Sequence[Row]) -> list[str]:
    """Notes of comparisons as sentences, without repetitions."""
    return list(dict.fromkeys(sentence(str(found["note"])) for found in comparisons if found.get("note")))
