"""Numbers of justifications as text, in English notation."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
# Smaller amounts are written as 0.
SMALLEST_AMOUNT = 1e-9
_NO_TENTHS = 10
_NO_CENTS = 100


def percent_size(fraction: float) -> str:
    """Size of a move in percent without its sign: to the tenth, from ten percent on to the unit."""
    size = 100 * abs(fraction)
    tenths = f"{size:.1f}"
    return _short(tenths) if float(tenths) < _NO_TENTHS else f"{size:,.0f}"


def percent(fraction: float, sign: str = "-") -> str:
    """A bound in percent, to the hundredth; `sign` "+" puts a sign before a gain too."""
    text = _short(f"{100 * fraction:{sign},.2f}")
    return "0" if text in {"+0", "-0"} else text.replace("-", MINUS)


def amount(value: float) -> str:
    """A plain number with three digits or more, without exponent."""
    size = abs(value)
    if size < SMALLEST_AMOUNT:
        return "0"
    # Three significant digits below 1, cents below 100.
    decimals = 2 - math.floor(math.log10(size)) if size < 1 else 2 * (size < _NO_CENTS)
    return _short(f"{value:,.{decimals}f}").replace("-", MINUS)


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
