"""Whether a model input follows the level of prices or volumes.

Back-adjusted prices are divided by every later split and dividend. Their past level knows the future, and a model
that reads it shows false skill.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import replacement_of
from boursomatic_assets.core.dataset.leaks import TOLERANCE
from boursomatic_assets.core.market.bars import PANEL_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Compute = Callable[[pl.DataFrame], pl.DataFrame]

_PRICES = ("open", "high", "low", "close")
# Factors of prices and volume: large, to cross any threshold on a level; all combinations, so that no product of
# their powers stays the same; no powers of two, which scale floating-point numbers exactly.
_FACTORS = tuple(product((7.0**5, 7.0**-5), (11.0**4, 11.0**-4)))
# A smaller value is zero apart from rounding, such as the deviation of equal returns.
_ROUNDING = 1e-9
_MOVED = {"symbol": pl.String(), "session": pl.Date(), "input": pl.String(), "is_own": pl.Boolean()}


def rows_that_follow_levels(bars: pl.DataFrame, compute: Compute, inputs: Sequence[str]) -> pl.DataFrame:
    """Find model inputs that change when whole histories of prices and volumes are multiplied by constants.

    `compute` makes a panel with `inputs` from a bar panel of all instruments. Returns `symbol`, `session`, `input`
    of the changed values, and `is_own`: whether the instrument's own history was multiplied, or another's. Sorted
    and distinct.

    Some instruments are multiplied, the others not; at least one choice separates each two instruments. Two values
    are equal within 1e-9 of the larger, or of the input's mean absolute value: a return near zero is the difference
    of two numbers near one and carries their rounding. Values below 1e-9 are zero.
    """
    before = compute(bars).select(*PANEL_KEY, pl.col(inputs).cast(pl.Float64))
    changed = [pl.DataFrame(schema=_MOVED)]
    for multiplied, price, volume in _choices(bars["symbol"].unique().sort().to_list()):
        after = compute(_multiplied(bars, multiplied, price, volume))
        changed.append(_moved(before, after, inputs, multiplied))
    return pl.concat(changed).unique().sort(*PANEL_KEY, "input", "is_own")


def _choices(symbols: list[str]) -> Iterator[tuple[list[str], float, float]]:
    """Symbols that are multiplied together, and the factors of their prices and volumes.

    The binary digits of its place separate a symbol from every other. Each symbol meets every pair of factors.
    """
    digits = max(len(_FACTORS), (len(symbols) - 1).bit_length())
    for digit, side in product(range(digits), (0, 1)):
        chosen = [symbol for place, symbol in enumerate(symbols) if place >> digit & 1 == side]
        if chosen:
            yield chosen, *_FACTORS[digit % len(_FACTORS)]


def _multiplied(bars: pl.DataFrame, symbols: Sequence[str], price: float, volume: float) -> pl.DataFrame:
    factors = {**dict.fromkeys(_PRICES, price), "volume": volume}
    chosen = pl.col("symbol").is_in(list(symbols))
    return bars.with_columns(
        pl.when(chosen).then(pl.col(name) * factors[name]).otherwise(pl.col(name)).alias(name)
        for name in bars.columns
        if name in factors
    )


def _moved(
    before: pl.DataFrame, after: pl.DataFrame, inputs: Sequence[str], multiplied: Sequence[str]
) -> pl.DataFrame:
    beside = before.with_columns(_before=True).join(
        after.select(*PANEL_KEY, pl.col(inputs).cast(pl.Float64), _after=True),
        on=PANEL_KEY,
        how="full",
        coalesce=True,
        suffix="_after",
    )
    alone = pl.col("_before").is_null() | pl.col("_after").is_null()
    flags = beside.select(*PANEL_KEY, *((alone | _differs(name)).alias(name) for name in inputs))
    moved = flags.unpivot(inputs, index=PANEL_KEY, variable_name="input", value_name="moved").filter("moved")
    return moved.select(*PANEL_KEY, "input", is_own=pl.col("symbol").is_in(list(multiplied)))


def _differs(name: str) -> pl.Expr:
    before, after = pl.col(name), pl.col(f"{name}_after")
    usual = before.filter(before.is_finite()).abs().mean().fill_null(0.0)
    gap = (before - after).abs()
    larger = pl.max_horizontal(before.abs(), after.abs())
    same = gap.is_finite() & ((gap <= TOLERANCE * pl.max_horizontal(larger, usual)) | (larger <= _ROUNDING))
    return before.ne_missing(after) & ~same.fill_null(value=False)


def why_levels_are_refused(inputs: Sequence[str]) -> str:
    """Say why models do not read these inputs, which `rows_that_follow_levels` names, and what to read instead."""
    known = {name: replacement_of(name) for name in inputs}
    instead = "".join(f"; name {better} in place of {name}" for name, better in known.items() if better)
    return (
        f"Models must not read {', '.join(inputs)}: multiplying a whole history of prices or volumes by a constant "
        "changes it, and back-adjusted prices are divided by every later split and dividend, so that their level "
        f"knows the future{instead}."
    )
