"""Overnight steps of a price, and whether trading explains them.

A split moves the whole bar overnight: open and close step together, and volume steps the other way or not at all.
News moves a price too, but with many times the usual volume, and the price goes on moving during the session. A
step is therefore judged by its size, against the instrument's own moves and the market's in that session, and by
its volume. A usual split ratio is a hint.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

STEP_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    **dict.fromkeys(("ratio", "split_ratio", "size", "deviations", "volume_surprise", "score"), pl.Float64()),
}

# Sessions before a step that define the instrument's usual move.
WINDOW = 60
# Smaller log steps are ordinary days.
SMALLEST_STEP = 0.08
# Steps of fewer usual moves are ordinary for the instrument.
LEAST_DEVIATIONS = 5.0
# Prior of a daily move, with the weight of a number of sessions.
PRIOR_MOVE, PRIOR_SESSIONS = 0.05, 2
# Fewest symbols of a session that show the market's move, and about the most that are asked.
MARKET_SYMBOLS = 10
MOST_SYMBOLS = 1_000
# Weekends and holidays are no halt.
HALT_DAYS = 5
TRADING_DAYS = 5 / 7
# Smallest move of a price in hundredths.
TICK = 0.01

# The score, in units of log volume: above 0 the step is larger than trading explains. Fitted by logistic regression
# on planted splits and spin-offs against real moves of half of the symbols, and rounded (`benchmarks/jumps.py`).
CONSTANT = -0.9
BY_DEVIATIONS, MOST_DEVIATIONS = 1.5, 12.0
BY_SIZE = 1.25
# Below the size of a fall of 30 %, as after bad earnings, the volume that news brings depends less on the size.
BY_SMALLNESS, SMALL = 0.5, -log(0.7)
BY_LATER_MOVE = -2.0
UPWARDS = -1.6
NEAR_A_SPLIT, NEAR = 0.5, 0.5
LEAST_SURPRISE = -1.0

_AT_ONCE = 20_000
_WHOLE_TICK = 0.001
_MOST_SURPRISE = 10.0
_MAD = 1.4826
_NORMAL_90 = 1.645
_NORMAL_QUARTILES = 1.349
_SMALL_SPLITS = (5 / 4, 4 / 3, 3 / 2)
_MANY_SHARES, _ROUND = 12, 0.07


def overnight_steps(bars: pl.DataFrame) -> pl.DataFrame:
    """Judge the larger overnight steps of a bar panel with `open` and `close`; `volume` is optional.

    Returns a row of `STEP_SCHEMA` per step, in the panel's order. `ratio` is the close over the close before,
    `split_ratio` the nearest usual split; `size` the log step that open and close both made beyond the market;
    `deviations` that size in the instrument's usual moves; `volume_surprise` the log of the volume over the usual
    one, less the size of a fall, since a split brings that much. Above a `score` of 0 trading does not explain the
    step.

    A usual move is the larger of the median absolute log return (times 1.4826) and its 90th percentile (over
    1.645), over up to 60 sessions before; of a price that mostly stands still, its largest move. It is blended with
    a prior of two sessions of 5 %. The spread of the market's returns in the session is added in squares. Only
    earlier sessions count, without their jumps, so that later bars change no judgement.
    """
    require_panel(bars, ["open", "close"])
    prices = PriceHistory(bars)
    rows = prices.moved(SMALLEST_STEP)
    closed, opened = prices.returns[rows], prices.opened(rows)
    together = (np.abs(opened) > SMALLEST_STEP) & (closed * opened > 0) & np.isfinite(opened)
    rows, closed, opened = rows[together], closed[together], opened[together]
    middle, spread = prices.market(rows)
    size = np.minimum(np.sign(closed) * (closed - middle), np.sign(closed) * (opened - middle))
    surprise = prices.volume_surprise(rows)
    surprise = np.maximum(np.where(closed < 0, surprise - size, surprise), LEAST_SURPRISE)
    # The open shows the ratio better than the close, which includes the day's own move.
    nearest = nearest_split(np.exp(opened))
    off_split = np.abs((closed + opened) / 2 - middle - np.log(nearest))
    large = np.maximum(size, SMALLEST_STEP)
    later = BY_LATER_MOVE * np.minimum(np.abs(closed - opened) / large, 1)
    jumps = np.zeros(rows.size, dtype=np.bool_)
    while True:
        usual = np.hypot(prices.usual_moves(rows), spread)
        hint = NEAR_A_SPLIT * (off_split < NEAR * usual)
        score = news_surprise(large / usual, large) + later + UPWARDS * (closed > 0) + hint - surprise
        unexplained = (score > 0) & (size > SMALLEST_STEP) & (size >= LEAST_DEVIATIONS * usual)
        if np.array_equal(unexplained, jumps):
            break
        # A jump is no move of the instrument: later steps are judged without it.
        jumps = unexplained
        prices.returns[rows[jumps]] = 0.0
    steps = bars[rows].select(
        *PANEL_KEY,
        ratio=pl.Series(prices.close[rows] / prices.close[rows - 1]),
        split_ratio=pl.Series(nearest),
        size=pl.Series(size),
        deviations=pl.Series(size / usual),
        volume_surprise=pl.Series(surprise),
        score=pl.Series(score),
    )
    large_enough = (pl.col("size") > SMALLEST_STEP) & (pl.col("deviations") >= LEAST_DEVIATIONS)
    return steps.filter(large_enough).cast(STEP_SCHEMA)  # type: ignore[arg-type]


def news_surprise(deviations: Floats, size: Floats) -> Floats:
    """Log volume surprise at which a step is as likely news as a change of the price's unit."""
    scarce = np.minimum(deviations, MOST_DEVIATIONS)
    smallness = np.log(SMALL / np.minimum(size, SMALL))
    return CONSTANT + BY_DEVIATIONS * np.log(scarce) + BY_SIZE * np.log(size) + BY_SMALLNESS * smallness


def nearest_split(ratio: Floats) -> Floats:
    """The usual split nearest to a ratio of prices: 5:4, 4:3, 3:2, n:1, or the reverse of one.

    Above twelve shares a multiple of five is taken where one lies within 7 %.
    """
    shares = np.maximum(ratio, 1 / ratio)
    few = np.stack([np.full(shares.shape, known) for known in _SMALL_SPLITS])
    choices = np.vstack([few, np.maximum(np.rint(shares), 2)])
    closest = np.argmin(np.abs(np.log(choices / shares)), axis=0)
    nearest = np.take_along_axis(choices, closest[np.newaxis], axis=0)[0]
    fives = np.maximum(np.rint(shares / 5), 1) * 5
    is_round = (shares > _MANY_SHARES) & (np.abs(np.log(fives / shares)) <= _ROUND)
    best = np.where(is_round, fives, nearest)
    return np.where(ratio < 1, 1 / best, best)


class PriceHistory:
    """Log returns of a bar panel, and an instrument's usual moves and volume before given rows.

    The panel needs `close`; `open`, `high`, `low` and `volume` only where they are asked for.
    """

    def __init__(self, bars: pl.DataFrame) -> None:
        self._bars = bars
        self._columns: dict[str, Floats] = {}
        self.close = self.column("close")
        symbol = bars["symbol"]
        self.starts: Places = np.flatnonzero((symbol != symbol.shift(1)).fill_null(value=True).to_numpy())
        self.returns = np.full(self.close.size, np.nan)
        # Tables may hold impossible prices, which show no step.
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(self.close[1:], self.close[:-1], out=self.returns[1:])
            self.returns[self.starts] = np.nan
            np.log(self.returns, out=self.returns)

    def column(self, name: str) -> Floats:
        """Values of a column, cached."""
        if name not in self._columns:
            self._columns[name] = self._bars[name].to_numpy()
        return self._columns[name]

    def moved(self, least: float) -> Places:
        """Rows at which the close is more than a log distance from the close before."""
        rows = np.flatnonzero((self.returns > least) | (self.returns < -least))
        return rows[np.isfinite(self.returns[rows])]  # type: ignore[no-any-return]

    def opened(self, rows: Places) -> Floats:
        """Log of the open over the close before; NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.column("open")[rows] / self.close[rows - 1])

    def market(self, rows: Places) -> tuple[Floats, Floats]:
        """Median and spread of log returns in the session of each row; 0 where few symbols traded.

        Of a large panel only every second, third, … symbol counts, so that about a thousand do.
        """
        chosen = self._asked(self.starts.size // MOST_SYMBOLS + 1)
        sessions = self._bars["session"]
        moved = pl.DataFrame(
            {"session": sessions[chosen], "moved": pl.Series(self.returns[chosen], nan_to_null=True)}
        ).filter(pl.col("session").is_in(sessions[rows].unique().implode()))
        moves = pl.col("moved")
        quartiles = moves.quantile(0.75) - moves.quantile(0.25)
        enough = moves.count() >= MARKET_SYMBOLS
        by_session = moved.group_by("session").agg(
            middle=pl.when(enough).then(moves.median()).otherwise(0.0),
            spread=pl.when(enough).then(quartiles / _NORMAL_QUARTILES).otherwise(0.0),
        )
        of_rows = sessions[rows].to_frame().join(by_session, on="session", how="left", maintain_order="left")
        filled = of_rows.with_columns(pl.col("middle", "spread").fill_null(0.0))
        return filled["middle"].to_numpy(), filled["spread"].to_numpy()

    def _asked(self, stride: int) -> Places | slice:
        """Rows of every `stride`-th symbol."""
        if stride == 1:
            return slice(None)
        ends = np.append(self.starts[1:], self.close.size)
        return np.concatenate(
            [np.arange(first, end) for first, end in zip(self.starts[::stride], ends[::stride], strict=True)]
        )

    def seen(self, rows: Places) -> Places:
        """Number of bars of the same instrument before each row."""
        return rows - self.starts[np.searchsorted(self.starts, rows, side="right") - 1]

    def usual_moves(self, rows: Places) -> Floats:
        """Usual absolute log return before each row, as defined by `overnight_steps`; at least one tick.

        After a halt it grows with the square root of the halt's length.
        """
        seen = np.minimum(self.seen(rows) - 1, WINDOW)
        median, high, highest = _quantiles_before(self.returns, rows, seen, np.abs, (0.5, 0.9, 1.0))
        shown = np.where(median > 0, np.maximum(median * _MAD, high / _NORMAL_90), highest)
        blended = (seen * shown**2 + PRIOR_SESSIONS * PRIOR_MOVE**2) / (seen + PRIOR_SESSIONS)
        days = self._bars["session"].to_physical().to_numpy()
        waited = days[rows] - days[rows - 1]
        halted = np.where(waited > HALT_DAYS, waited * TRADING_DAYS, 1.0)
        return np.maximum(np.sqrt(blended * halted), self._tick(rows, seen))  # type: ignore[no-any-return]

    def _tick(self, rows: Places, seen: Places) -> Floats:
        """A hundredth, relative to the price, where all prices before are whole hundredths; else 0."""
        (worst,) = _quantiles_before(self.close, rows, seen + 1, _off_the_tick, (1.0,))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = TICK / np.minimum(self.close[rows], self.close[rows - 1])
        return np.where(worst < _WHOLE_TICK, relative, 0.0)

    def volume_surprise(self, rows: Places) -> Floats:
        """Log of each row's volume over the median before it, or the mean where that is 0; from -10 to 10.

        0 where there was no volume before and is none now, and for a panel without volume.
        """
        if "volume" not in self._bars.columns:
            return np.zeros(rows.size)
        seen = np.minimum(self.seen(rows), WINDOW)
        volume = self.column("volume")
        (median,) = _quantiles_before(volume, rows, seen, np.abs, (0.5,))
        total = np.concatenate([np.zeros(1), np.cumsum(volume)])
        mean = (total[rows] - total[rows - seen]) / np.maximum(seen, 1)
        usual = np.where(median > 0, median, mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            surprise = np.log(volume[rows] / usual)
        return np.clip(np.nan_to_num(surprise, nan=0.0), -_MOST_SURPRISE, _MOST_SURPRISE)  # type: ignore[no-any-return]


def _off_the_tick(prices: Floats) -> Floats:
    """Distance of prices from the nearest positive whole number of ticks, in ticks."""
    return np.abs(prices / TICK - np.maximum(np.rint(prices / TICK), 1))


def _quantiles_before(
    values: Floats, rows: Places, seen: Places, of: Callable[[Floats], Floats], quantiles: tuple[float, ...]
) -> list[Floats]:
    """Lower quantiles of a function of the `seen` values before each row; 0 where none was seen."""
    results = [np.zeros(rows.size) for _ in quantiles]
    back = np.arange(1, WINDOW + 2)
    for first in range(0, rows.size, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        places = np.maximum(rows[part, np.newaxis] - back, 0)
        past = np.where(back <= seen[part, np.newaxis], of(values[places]), np.inf)
        past.sort(axis=1)
        for quantile, into in zip(quantiles, results, strict=True):
            at = np.floor(quantile * np.maximum(seen[part] - 1, 0)).astype(np.int64)
            into[part] = np.take_along_axis(past, at[:, np.newaxis], axis=1)[:, 0]
    return [np.where(seen > 0, value, 0.0) for value in results]
