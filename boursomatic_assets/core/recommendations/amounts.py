"""Numbers of justifications as text, in the English way."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
# Smaller amounts are written as 0.
SMALLEST_AMOUNT = 1e-9
_NO_TENTHS = 10
_NO_CENTS = 100


def percent_size(fraction: float) -> str:
    """Size of a move without its sign, in percent, to the tenth or from ten percent on to the unit."""
    size = 100 * abs(fraction)
    tenths = f"{size:.1f}"
    return _short(tenths) if float(tenths) < _NO_TENTHS else f"{size:,.0f}"


def percent(fraction: float, sign: str = "-") -> str:
    """Write a bound in percent as it was set, to the hundredth; `sign` is "+" to have one before a gain too."""
    text = _short(f"{100 * fraction:{sign},.2f}")
    return "0" if text in {"+0", "-0"} else text.replace("-", MINUS)


def amount(value: float) -> str:
    """Write a plain number to three digits or more, never as a power of ten."""
    size = abs(value)
    if size < SMALLEST_AMOUNT:
        return "0"
    # Three digits from the first that is not zero, and cents.
    decimals = 2 - math.floor(math.log10(size)) if size < 1 else 2 * (size < _NO_CENTS)
    return _short(f"{value:,.{decimals}f}").replace("-", MINUS)


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
