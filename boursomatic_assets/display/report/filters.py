"""The templates' filters: how the pages write figures and words, and arrange tables. Any key may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.figures import book_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, Any]

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
PERCENT = f"{SPACE}%"
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


def decimals_for(values: Iterable[float | None], unit: str = "number") -> int:
    """Decimals that show about three digits of the largest of some figures."""
    known = [value for value in values if value is not None]
    if unit != "percent" and all(float(value).is_integer() for value in known):
        return 0
    factor = 100 if unit == "percent" else 1
    largest = max((abs(value) * factor for value in known), default=0.0)
    steps = ((10, 1), (1, 1), (0, 2)) if unit == "percent" else ((100, 0), (10, 1), (0.1, 3), (0, 4))
    return next(decimals for from_here, decimals in steps if largest >= from_here)


def decimals_of_differences(values: Iterable[float | None]) -> int:
    """At least four decimals; six for daily returns, which four would show as 0."""
    known = [abs(value) for value in values if value is not None]
    return max(decimals_for(known), 6 if 0 < max(known, default=0.0) < 0.01 else 4)  # noqa: PLR2004


def number(value: float | None, unit: str = "number", decimals: int | None = None) -> str:
    """A figure for people: percent if that is its unit, a dash if there is none."""
    if value is None:
        return DASH
    places = decimals_for([value], unit) if decimals is None else decimals
    text = f"{abs(value) * (100 if unit == 'percent' else 1):,.{places}f}"
    is_zero = not text.strip("0.,")
    return f"{MINUS if value < 0 and not is_zero else ''}{text}{PERCENT if unit == 'percent' else ''}"


def whole_number(value: float | None) -> str:
    """A count."""
    return DASH if value is None else f"{value:,.0f}"


def interval(low: float | None, high: float | None, unit: str = "number", places: int | None = None) -> str:
    """Two bounds; a dash if one is unknown."""
    if low is None or high is None:
        return DASH
    places = decimals_for([low, high], unit) if places is None else places
    return f"{number(low, unit, places)} to {number(high, unit, places)}"


def p_value(value: float | None) -> str:
    """A p-value; below 0.001 no digits."""
    if value is None:
        return DASH
    return f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004


def sentence(text: str) -> str:
    """A remark as a sentence, with a capital and a full stop."""
    said = text.strip()
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith(('.', '!', '?')) else '.'}" if said else ""


def words(name: object) -> str:
    """A name with blanks for its underscores."""
    return str(name).replace("_", " ")


def in_words(value: object) -> str:
    """Any JSON value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{words(name)} {in_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(in_words, value))
    return DASH if value is None else str(value)


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
    entries = {(part.get("cost_bps"), str(part.get("book"))): part for part in sweep}
    costs = sorted({cost for cost, _ in entries if cost is not None})
    rows = [(cost, [entries.get((cost, book), {}) for book in books]) for cost in costs]
    return [book_line(book).label for book in books], rows


def notes(comparisons: Sequence[Row]) -> list[str]:
    """Notes of comparisons as sentences, without repetitions."""
    return list(
        dict.fromkeys(sentence(str(comparison["note"])) for comparison in comparisons if comparison.get("note"))
    )
