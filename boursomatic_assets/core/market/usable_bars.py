"""The bars that features and labels are made from: the stored ones, less what would falsify them.

Storage keeps what the sources say. What is known to be wrong about it is taken into account here, in one place,
each time bars are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.calendars import before_first_trade, outside_sessions
from boursomatic_assets.core.market.corporate_actions import apply_adjustments

if TYPE_CHECKING:
    from collections.abc import Sequence


def usable_bars(
    bars: pl.DataFrame, adjustments: pl.DataFrame, quarantined: Sequence[str], *, from_the_first_bar: bool = True
) -> pl.DataFrame:
    """Leave out what is no price, and adjust what is left.

    Parameters
    ----------
    bars : DataFrame
        Bar panel with `close`, `volume` and `exchange`.
    adjustments : DataFrame
        As for `apply_adjustments`.
    quarantined : sequence of str
        Symbols with a jump that nobody has explained; left out whole, since a label may reach across it.
    from_the_first_bar : bool
        Whether each symbol's history begins with the panel; where it was cut off, an idle start tells nothing.

    Returns
    -------
    DataFrame
        The panel without quarantined symbols, and without rows that a source has filled in: dates on which the
        exchange was closed and nothing was traded, and those before an instrument's first trade. Rows with a
        volume stay, whatever the calendar says.
    """
    trusted = bars.filter(~pl.col("symbol").is_in(list(quarantined))) if len(quarantined) else bars
    idle = trusted.filter(pl.col("volume") == 0)
    early = before_first_trade(trusted) if from_the_first_bar else trusted.clear()
    filled_in = pl.concat([outside_sessions(idle), early]).select(PANEL_KEY)
    real = trusted.join(filled_in, on=PANEL_KEY, how="anti", maintain_order="left") if filled_in.height else trusted
    return apply_adjustments(real, adjustments)
