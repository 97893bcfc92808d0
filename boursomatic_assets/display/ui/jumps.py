"""Price jumps in words, for checks and the command line."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Metadata of a passed check whose description is printed nevertheless.
TO_LOOK_AT = "to_look_at"
JUMPS_NAMED = 20
# The split is estimated from the open. A close further away than this moved for another reason.
NEAR_A_SPLIT = log(1.5)


def jump_words(ratio: float, split_ratio: float) -> str:
    """The split that a jump is near, or that it is near none."""
    if abs(log(ratio / split_ratio)) > NEAR_A_SPLIT:
        return "a jump near no usual split"
    return f"a jump near {split_ratio:.4g}"


def jumps_in_words(jumps: pl.DataFrame) -> str:
    """The first jumps one by one, and the number of others. `jumps` has `JUMP_SCHEMA` and at least one row."""
    named = [
        f"{symbol} {session}, {jump_words(ratio, split_ratio)} (to {ratio:.4g} of the close before)"
        for symbol, session, ratio, split_ratio in jumps.head(JUMPS_NAMED).rows()
    ]
    more = jumps.height - len(named)
    return "; ".join(named) + (f"; and {more:,} more" if more else "")
