"""Write figures and words for the pages; the templates' filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"
PERCENT = f"{SPACE}%"


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
