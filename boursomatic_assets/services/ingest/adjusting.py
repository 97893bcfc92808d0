"""Adjustments entered by people, refused where they close no jump."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.market.corporate_actions import apply_adjustments, split_like_jumps
from boursomatic_assets.core.market.price_steps import LEAST_DEVIATIONS, PriceHistory
from boursomatic_assets.core.market.vendor_actions import applied_ratios
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.adjustments_table import (
    add_adjustment,
    known_jumps,
    read_actions,
    require_entry,
)
from boursomatic_assets.storage.postgres.market_tables import read_bars
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.storage.postgres.database import Database

# Largest remaining step, as a share of the ratio's log.
MOST_LEFT = 0.5


def enter_adjustment(database: Database, symbol: str, session: date, ratio: float, note: str | None) -> None:
    """Store an adjustment that closes a jump on its session; it replaces the one of that symbol and session.

    `session` is the first one at the new price. `ratio` is price after over price before, 1 for a jump that was
    real. Raises ConfigurationError for an unknown symbol, a ratio not above 0, or a ratio that closes no jump on
    that session. The message names the inverse ratio where that one would, and the sessions with a jump.
    """
    require_entry(database, symbol, ratio)
    bars = read_bars(database, selection=Selection(symbols=[symbol]))
    jumps, entered = known_jumps(database, symbol)
    with database.bulk() as cursor:
        stated = read_actions(cursor, [symbol])
    # The entry is to replace what a vendor says of its session; one that accepts a move replaces nothing.
    others = entered.filter(pl.col("session") != session)
    if ratio != 1.0:
        stated = stated.filter(pl.col("session") != session)
    at = bars["session"].index_of(session)
    if not at:
        where = "its first bar" if at == 0 else "no bar"
        message = (
            f"{symbol} has {where} on {session}: an adjustment belongs on the first session at the new price. "
        )
        raise ConfigurationError(message + _elsewhere(symbol, jumps))
    panel = apply_adjustments(bars, applied_ratios(others, stated))
    moved = panel["close"][at] / panel["close"][at - 1]
    if ratio == 1.0:
        if session not in jumps["session"]:
            message = (
                f"there is no jump of {symbol} on {session} to accept: the close went to {moved:.4g} of the one "
                f"before. {_elsewhere(symbol, jumps)}"
            )
            raise ConfigurationError(message)
    elif not _closes(panel, at, symbol, session, ratio):
        message = (
            f"{ratio:g} does not close a jump of {symbol} on {session}: the close went to {moved:.4g} of the one "
            f"before, and would still go to {moved / ratio:.4g} of it. A ratio is the price after over the price "
            "before. "
        )
        inverse = f"Its inverse does: boursomatic adjustments add {symbol} {session} {1 / ratio:.6g}"
        is_inverse = _closes(panel, at, symbol, session, 1 / ratio)
        raise ConfigurationError(message + (inverse if is_inverse else _elsewhere(symbol, jumps)))
    add_adjustment(database, symbol, session, ratio, note)


def _closes(panel: pl.DataFrame, at: int, symbol: str, session: date, ratio: float) -> bool:
    """Whether no jump is left after the bars before a session are scaled.

    The remaining step, at the open or the close, must be an ordinary move and less than half of the ratio's.
    """
    scaled = apply_adjustments(panel, pl.DataFrame({"symbol": [symbol], "session": [session], "ratio": [ratio]}))
    before = scaled["close"][at - 1]
    left = min(abs(log(scaled[name][at] / before)) for name in ("open", "close"))
    ordinary = LEAST_DEVIATIONS * float(PriceHistory(scaled).usual_moves(np.array([at]))[0])
    again = split_like_jumps(scaled).filter(pl.col("session") == session)
    return again.is_empty() and left < ordinary and left < MOST_LEFT * abs(log(ratio))


def _elsewhere(symbol: str, jumps: pl.DataFrame) -> str:
    if jumps.is_empty():
        return f"{symbol} has no jump that waits for an entry."
    places = "; ".join(f"{session}, to {moved:.4g}" for session, moved in jumps.select("session", "ratio").rows())
    return f"{symbol} jumps on {places} of the close before."
