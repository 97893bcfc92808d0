"""Two figures as they are printed: what is said of their order is read from the digits that people see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

# 0.54 beside 0.54 is neither above nor below; no more digits than this are spent to tell two figures apart.
MOST_DIGITS = 12
PERCENT, NOT_AVAILABLE = " %", "not available"
_WORDS = {1: "is above", 0: "equals", -1: "is below"}


@dataclass(frozen=True)
class Compared:
    """Two figures as text, and their order.

    Attributes
    ----------
    first, second : str
        As printed.
    order : int
        1 where the first is larger as printed, -1 where it is smaller, 0 where both read the same.
    digits : int
        Decimals, or significant digits, that were printed.
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
    """Write a figure with a number of decimals (`f`) or of significant digits (`g`).

    Zero has no sign, and NaN is "not available".
    """
    if math.isnan(value):
        return NOT_AVAILABLE
    text = f"{100 * value if percent else value:.{digits}{kind}}"
    unsigned = text.removeprefix("-")
    is_zero = math.isfinite(value) and Decimal(unsigned) == 0
    return f"{unsigned if is_zero else text}{PERCENT if percent else ''}"


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign, a plus too; what rounds to zero has none."""
    text = printed(value, digits)
    return f"+{text}" if value > 0 and _number(text) > 0 else text


def compared(
    value: float, other: float, digits: int, kind: Literal["f", "g"] = "f", *, percent: bool = False
) -> Compared | None:
    """Print two figures alike and say which is larger as printed.

    Parameters
    ----------
    value, other : float
    digits : int
        Decimals, or significant digits where `kind` is `g`.
    kind : {"f", "g"}
    percent : bool
        Write fractions as percent.

    Returns
    -------
    Compared or None
        None unless both are finite: nothing is above what is not there.
    """
    if not (math.isfinite(value) and math.isfinite(other)):
        return None
    first, second = (printed(side, digits, kind, percent=percent) for side in (value, other))
    return Compared(first, second, _sign(_number(first), _number(second)), digits)


def told_apart(
    value: float, other: float, digits: int, kind: Literal["f", "g"] = "f", *, percent: bool = False
) -> Compared | None:
    """Print two figures with as many digits as show their order, where something was decided by it.

    Parameters
    ----------
    value, other, kind, percent
        As for `compared`.
    digits : int
        The fewest. At most `MOST_DIGITS` are spent.

    Returns
    -------
    Compared or None
        None unless both are finite.
    """
    found = compared(value, other, digits, kind, percent=percent)
    if found is None or value == other or found.order or digits >= MOST_DIGITS:
        return found
    return told_apart(value, other, digits + 1, kind, percent=percent)


def _number(text: str) -> Decimal:
    return Decimal(text.removesuffix(PERCENT))


def _sign(first: Decimal, second: Decimal) -> int:
    return (first > second) - (first < second)
