"""The bars that features and labels are made from: stored bars without what would falsify them.

Storage keeps what the sources say. Known errors are taken out here, each time bars are read.
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
    """Leave out rows that are no traded prices, and apply adjustments.

    Left out are symbols `quarantined` for an unexplained jump, whole, since a label may reach across it; rows
    without volume on dates when the exchange was closed; and rows before an instrument's first trade. The latter
    only if each history begins with the panel (`from_the_first_bar`). Rows with a volume stay, whatever the
    calendar says.
    """
    trusted = bars.filter(~pl.col("symbol").is_in(list(quarantined))) if len(quarantined) else bars
    idle = trusted.filter(pl.col("volume") == 0)
    early = before_first_trade(trusted) if from_the_first_bar else trusted.clear()
    filled_in = pl.concat([outside_sessions(idle), early]).select(PANEL_KEY)
    real = trusted.join(filled_in, on=PANEL_KEY, how="anti", maintain_order="left") if filled_in.height else trusted
    return apply_adjustments(real, adjustments)
