"""Prices that leave for a session or a few and come back as if nothing had been: wrong ticks, set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, CheckedBars
from boursomatic_assets.core.market.price_steps import Past, bearable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from boursomatic_assets.core.market.price_steps import Floats, Places

ISOLATED = "isolated price: far from the sessions before and after"
NO_TRADE = "price without a trade, far from the last one"

# Sessions for which a wrong price may last.
LONGEST = 3
# Log distance below which a price that comes back is never wrong, and above which it is whatever was traded.
SMALLEST, CERTAIN = 0.12, 0.9
FEWEST_DEVIATIONS = 6.0
# It is back where it was: within a twentieth, or two usual moves where they are more, and a quarter of the way.
BACK, BACK_DEVIATIONS, BACK_SHARE = 0.05, 2.0, 0.25
# What coming back adds to the score: news rarely undoes itself to the cent.
CAME_BACK = 1.0


def set_aside_isolated(checked: CheckedBars, before: pl.DataFrame | None = None) -> CheckedBars:
    """Reject bars that lie far off for up to three sessions and come back, or end there without a trade.

    Parameters
    ----------
    checked : CheckedBars
    before : DataFrame, optional
        Bars to compare with that lie outside of `checked`, such as stored ones: a panel of `BAR_SCHEMA`. They are
        judged too and, where they are isolated, returned among the rejected.

    Returns
    -------
    CheckedBars
        A bar is isolated where the close is back within a twentieth (or two usual moves) of the close before it
        left, and either it was off by more than a factor of 2.5, whatever was traded; or the whole bar was off,
        by at least six usual moves and by more than its volume explains, as in
        `boursomatic_assets.core.market.price_steps`. A fall and a recovery on heavy volume stay.
        The last bars of an instrument are set aside too, up to three, where they are as far off without range and
        without volume.
    """
    outside = checked.accepted.clear() if before is None else before.select(checked.accepted.columns)
    bars = pl.concat([checked.accepted, outside]).sort(PANEL_KEY) if outside.height else checked.accepted
    aside = []
    # Where one wrong price has gone, what is usual may show the next one.
    while wrong := _wrong(bars):
        rows, reasons = zip(*sorted(wrong.items()), strict=True)
        aside.append(bars[list(rows)].with_columns(reason=pl.Series(reasons)))
        touched = bars.filter(pl.col("symbol").is_in(aside[-1]["symbol"].unique().implode()))
        bars = touched.join(aside[-1].select(PANEL_KEY), on=PANEL_KEY, how="anti", maintain_order="left")
    if not aside:
        return checked
    gone = pl.concat(aside)
    rejected = pl.concat([checked.rejected, gone]).sort([*PANEL_KEY, "reason"], maintain_order=True)
    return CheckedBars(_without(checked.accepted, gone), rejected)


def _without(bars: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """The bars less a few of them."""
    keys = bars.select(PANEL_KEY).with_row_index("row").filter(pl.col("symbol").is_in(gone["symbol"].implode()))
    kept = np.ones(bars.height, dtype=np.bool_)
    kept[keys.join(gone.select(PANEL_KEY), on=PANEL_KEY, how="semi")["row"].to_numpy()] = False
    return bars.filter(pl.Series(kept))


def _wrong(bars: pl.DataFrame) -> dict[int, str]:
    """Rows to set aside, each with the reason."""
    past = Past(bars)
    return dict.fromkeys(_untraded(past), NO_TRADE) | dict.fromkeys(_excursions(past), ISOLATED)


def _excursions(past: Past) -> list[int]:
    """Rows of bars that have left and come back."""
    left = past.moved(SMALLEST)
    starts = [(int(first), length) for length in range(1, LONGEST + 1) for first in _came_back(past, left, length)]
    # Seen from two wrong prices the right ones between them have left: the shorter absence is the wrong one, and of
    # equal ones the first.
    wrong: set[int] = set()
    for first, length in sorted(starts, key=lambda start: (start[1], start[0])):
        if wrong.isdisjoint(range(first - 1, first + length + 1)):
            wrong.update(range(first, first + length))
    return sorted(wrong)


def _came_back(past: Past, left: Places, length: int) -> Places:
    """First rows of the excursions of exactly this length among the rows at which a price has left."""
    here = left[left + length < past.close.size]
    here = here[past.seen(here + length) == past.seen(here) + length]
    off = past.returns[here]
    home = np.log(past.close[here + length] / past.close[here - 1])
    # Those that can be; the rest costs more to tell.
    # Between two prices that nobody traded at the one that was traded at is not the wrong one.
    backwards = _idle(past, here - 1) & _idle(past, here + length) & ~_idle(past, here)
    can_be = (np.abs(home) <= BACK_SHARE * np.abs(off)) & ~backwards
    here, home, direction = here[can_be], home[can_be], np.sign(off[can_be])
    before = past.close[here - 1]
    away = np.stack([direction * np.log(past.close[here + offset] / before) for offset in range(length)])
    usual = past.usual_moves(here)
    returned = np.abs(home) <= np.maximum(BACK, BACK_DEVIATIONS * usual)
    least = away.min(axis=0)
    certain = (least >= CERTAIN) & (least >= FEWEST_DEVIATIONS * usual)
    distance = np.maximum(_distance(past, here, length, direction), SMALLEST)
    unexplained = bearable(distance / usual, distance) + CAME_BACK > past.volume_surprise(here)
    whole = (distance > SMALLEST) & (distance >= FEWEST_DEVIATIONS * usual) & unexplained
    return here[returned & (certain | whole)]  # type: ignore[no-any-return]


def _distance(past: Past, here: Places, length: int, direction: Floats) -> Floats:
    """Log distance of all prices of the bars that are away from the closes around them; below 0 where they meet."""
    high, low, close = (past.column(name) for name in ("high", "low", "close"))
    around = close[here - 1], close[here + length]
    away = [here + offset for offset in range(length)]
    upwards = np.min([low[rows] for rows in away], axis=0) / np.maximum(*around)
    downwards = np.minimum(*around) / np.max([high[rows] for rows in away], axis=0)
    return np.log(np.where(direction > 0, upwards, downwards))  # type: ignore[no-any-return]


def _untraded(past: Past) -> list[int]:
    """Up to three last rows of instruments that lie far off although nobody traded: nothing confirms them."""
    ends = np.append(past.starts[1:], past.close.size)[: past.starts.size]
    found: list[int] = []
    for length in range(1, LONGEST + 1):
        first = ends - length
        first = first[past.seen(ends - 1) >= length]
        idle = np.all([_idle(past, first + offset) for offset in range(length)], axis=0)
        first = first[idle & (np.abs(past.returns[first]) > SMALLEST)]
        off = np.abs(past.returns[first])
        traded_before = past.volume_surprise(first) < 0
        for row in first[traded_before & (off >= FEWEST_DEVIATIONS * past.usual_moves(first))].tolist():
            found.extend(range(row, row + length))
    return found


def _idle(past: Past, rows: Places) -> NDArray[np.bool_]:
    """Whether nobody traded: no volume, and one price."""
    return (past.column("volume")[rows] == 0) & (past.column("high")[rows] == past.column("low")[rows])  # type: ignore[no-any-return]
