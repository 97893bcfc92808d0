"""Figures as they are printed, and the order of two of them, read from the printed digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

# Most digits that are printed to show the order of two figures.
MOST_DIGITS = 12
PERCENT, NOT_AVAILABLE = " %", "not available"
_WORDS = {1: "is above", 0: "equals", -1: "is below"}


@dataclass(frozen=True)
class Compared:
    """Two figures as printed, and their order.

    `order` is 1 where the first is larger as printed, -1 where it is smaller, 0 where both read the same; `digits`
    is the number of printed decimals or significant digits.
    """

    first: str
    second: str
    order: int
    digits: int

    @property
    def words(self) -> str:
        """`is above`, `is below` or `equals`."""
        return _WORDS[self.order]


def printed(value: float, digits: int, kind: Literal["f", "g"] = "f", *, percent: bool = False) -> str:
    """Print a figure with decimals (`f`) or significant digits (`g`). Zero has no sign; NaN is "not available"."""
    if math.isnan(value):
        return NOT_AVAILABLE
    text = f"{100 * value if percent else value:.{digits}{kind}}"
    unsigned = text.removeprefix("-")
    is_zero = math.isfinite(value) and Decimal(unsigned) == 0
    return f"{unsigned if is_zero else text}{PERCENT if percent else ''}"


def signed(value: float, digits: int) -> str:
    """Print a difference with its sign, also a plus; what rounds to zero has none."""
    text = printed(value, digits)
    return f"+{text}" if value > 0 and _number(text) > 0 else text


def compared(
    value: float, other: float, digits: int, kind: Literal["f", "g"] = "f", *, percent: bool = False
) -> Compared | None:
    """Print two figures with the same digits; None unless both are finite."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return None
    first, second = (printed(side, digits, kind, percent=percent) for side in (value, other))
    left, right = _number(first), _number(second)
    return Compared(first, second, (left > right) - (left < right), digits)


def told_apart(
    value: float, other: float, digits: int, kind: Literal["f", "g"] = "f", *, percent: bool = False
) -> Compared | None:
    """Print two figures with enough digits to show their order, at least `digits`; None unless both are finite."""
    pair = compared(value, other, digits, kind, percent=percent)
    if pair is None or value == other or pair.order or digits >= MOST_DIGITS:
        return pair
    return told_apart(value, other, digits + 1, kind, percent=percent)


def _number(text: str) -> Decimal:
    return Decimal(text.removesuffix(PERCENT))
