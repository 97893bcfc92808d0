"""Wrong ticks, set aside: prices that leave for up to three sessions and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import ISOLATED, NO_TRADE, PANEL_KEY, CheckedBars
from boursomatic_assets.core.market.price_steps import PriceHistory, news_surprise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from boursomatic_assets.core.market.price_steps import Floats, Places

# Sessions for which a wrong price may last.
LONGEST = 3
# Log distance below which a returning price is never wrong, and above which it is wrong at any volume.
SMALLEST, CERTAIN = 0.12, 0.9
FEWEST_DEVIATIONS = 6.0
# A price is back within a twentieth, or two usual moves if larger, and within a quarter of its distance.
BACK, BACK_DEVIATIONS, BACK_SHARE = 0.05, 2.0, 0.25
# Added to the score of a price that is back: news rarely undoes itself to the cent.
CAME_BACK = 1.0


def set_aside_isolated(checked: CheckedBars, before: pl.DataFrame | None = None) -> CheckedBars:
    """Reject bars that lie far off for up to three sessions and come back, or end there without a trade.

    Bars of `before`, such as stored ones, are compared and judged too: isolated ones join the rejected, the others
    are not returned.

    A bar is isolated where the close is back within a twentieth (or two usual moves) of the close before it left,
    and it was off by a factor of more than 2.5, or the whole bar was off by at least six usual moves and by more
    than its volume explains (`price_steps`). A fall and a recovery on heavy volume stay. Up to three last bars of
    an instrument are set aside too, where they are as far off, without range and without volume.
    """
    outside = checked.accepted.clear() if before is None else before.select(checked.accepted.columns)
    bars = pl.concat([checked.accepted, outside]).sort(PANEL_KEY) if outside.height else checked.accepted
    aside = []
    # Without one wrong price, the usual moves may reveal the next one.
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
    """Bars without some of them."""
    keys = bars.select(PANEL_KEY).with_row_index("row").filter(pl.col("symbol").is_in(gone["symbol"].implode()))
    kept = np.ones(bars.height, dtype=np.bool_)
    kept[keys.join(gone.select(PANEL_KEY), on=PANEL_KEY, how="semi")["row"].to_numpy()] = False
    return bars.filter(pl.Series(kept))


def _wrong(bars: pl.DataFrame) -> dict[int, str]:
    """Rows to set aside, with their reason."""
    history = PriceHistory(bars)
    return dict.fromkeys(_untraded(history), NO_TRADE) | dict.fromkeys(_excursions(history), ISOLATED)


def _excursions(history: PriceHistory) -> list[int]:
    """Rows of bars that have left and come back."""
    left = history.moved(SMALLEST)
    starts = [
        (int(first), length) for length in range(1, LONGEST + 1) for first in _came_back(history, left, length)
    ]
    # Right prices between two wrong ones look like an excursion too: the shorter one is wrong, of equal ones the
    # first.
    wrong: set[int] = set()
    for first, length in sorted(starts, key=lambda start: (start[1], start[0])):
        if wrong.isdisjoint(range(first - 1, first + length + 1)):
            wrong.update(range(first, first + length))
    return sorted(wrong)


def _came_back(history: PriceHistory, left: Places, length: int) -> Places:
    """First rows of excursions of exactly this length, among the rows at which a price has left."""
    here = left[left + length < history.close.size]
    here = here[history.seen(here + length) == history.seen(here) + length]
    off = history.returns[here]
    home = np.log(history.close[here + length] / history.close[here - 1])
    # A traded price between two untraded ones is not the wrong one. Cheap conditions come first.
    backwards = _idle(history, here - 1) & _idle(history, here + length) & ~_idle(history, here)
    can_be = (np.abs(home) <= BACK_SHARE * np.abs(off)) & ~backwards
    here, home, direction = here[can_be], home[can_be], np.sign(off[can_be])
    before = history.close[here - 1]
    away = np.stack([direction * np.log(history.close[here + offset] / before) for offset in range(length)])
    usual = history.usual_moves(here)
    returned = np.abs(home) <= np.maximum(BACK, BACK_DEVIATIONS * usual)
    least = away.min(axis=0)
    certain = (least >= CERTAIN) & (least >= FEWEST_DEVIATIONS * usual)
    distance = np.maximum(_distance(history, here, length, direction), SMALLEST)
    unexplained = news_surprise(distance / usual, distance) + CAME_BACK > history.volume_surprise(here)
    whole = (distance > SMALLEST) & (distance >= FEWEST_DEVIATIONS * usual) & unexplained
    return here[returned & (certain | whole)]  # type: ignore[no-any-return]


def _distance(history: PriceHistory, here: Places, length: int, direction: Floats) -> Floats:
    """Log distance between the excursion's whole bars and the closes around it; below 0 where they overlap."""
    high, low, close = (history.column(name) for name in ("high", "low", "close"))
    around = close[here - 1], close[here + length]
    away = [here + offset for offset in range(length)]
    upwards = np.min([low[rows] for rows in away], axis=0) / np.maximum(*around)
    downwards = np.minimum(*around) / np.max([high[rows] for rows in away], axis=0)
    return np.log(np.where(direction > 0, upwards, downwards))  # type: ignore[no-any-return]


def _untraded(history: PriceHistory) -> list[int]:
    """Up to three last rows of an instrument that lie far off without a trade, so that nothing confirms them."""
    ends = np.append(history.starts[1:], history.close.size)[: history.starts.size]
    untraded: list[int] = []
    for length in range(1, LONGEST + 1):
        first = ends - length
        first = first[history.seen(ends - 1) >= length]
        idle = np.all([_idle(history, first + offset) for offset in range(length)], axis=0)
        first = first[idle & (np.abs(history.returns[first]) > SMALLEST)]
        off = np.abs(history.returns[first])
        traded_before = history.volume_surprise(first) < 0
        for row in first[traded_before & (off >= FEWEST_DEVIATIONS * history.usual_moves(first))].tolist():
            untraded.extend(range(row, row + length))
    return untraded


def _idle(history: PriceHistory, rows: Places) -> NDArray[np.bool_]:
    """Whether a bar has no volume and one price."""
    return (history.column("volume")[rows] == 0) & (history.column("high")[rows] == history.column("low")[rows])  # type: ignore[no-any-return]
