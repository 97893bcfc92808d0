"""Overlapping tranches as matrices: prices, entry weights, and what each tranche earns while it is held.

`book` says what a book is and adds the tranches up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from boursomatic_assets.errors import PanelContractError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

Legs = Literal["long", "long_short"]
# At a higher leverage the tranche's wealth is zero apart from rounding.
RUINOUS_LEVERAGE = 1e9


@dataclass(frozen=True)
class HoldingPeriod:
    """One tranche from its fill to its next fill."""

    entry: int  # row of the session whose close fills it
    # Traded at the fill, as signed shares of the wealth, (n_symbols,): new weights less the drifted old ones. The
    # last period, which closes the book, has those of all tranches together.
    changes: np.ndarray
    names: np.ndarray  # columns of the instruments held, shape (n_names,)
    values: np.ndarray  # at each close over the wealth at the fill, (n_held + 1, n_names); below zero for shorts
    wealth: np.ndarray  # shape (n_held + 1,); 1.0 at the fill, 0.0 from its ruin on
    ruined: bool  # whether its shorts lost everything

    @property
    def leave(self) -> int:
        """Row of the session whose close ends it."""
        return self.entry + len(self.wealth) - 1

    @property
    def returns(self) -> np.ndarray:
        """Return per held session, shape (n_held,); -1 in the session of its ruin and zero after it."""
        before = self.wealth[:-1]
        return _shares(self.wealth[1:], before, otherwise=1.0) - 1.0

    @property
    def weights(self) -> np.ndarray:
        """Signed share of the tranche's wealth in each instrument at each close, shape of `values`."""
        return _shares(self.values, self.wealth[:, None])

    @property
    def exposure(self) -> np.ndarray:
        """Longs plus shorts over the wealth, as each held session begins; shape (n_held,)."""
        return _shares(np.abs(self.values[:-1]).sum(axis=1), self.wealth[:-1])


@dataclass(frozen=True)
class BookMatrices:
    """Prices and entry weights as session x instrument matrices over the life of a book.

    `sessions` last from the first that can make a call to the exit of the last call (filled one session later, held
    `horizon` sessions), or to the end of the data.
    """

    sessions: list[date]
    symbols: list[str]  # instruments called at least once, sorted
    horizon: int  # sessions that a tranche is held, and number of tranches
    prices: np.ndarray  # closes; without a bar the last one before
    next_bar: np.ndarray  # row of the next bar at or after each session; n_sessions without one
    final_bar: np.ndarray  # row of each instrument's very last bar; n_sessions if after the life of the book
    weights: np.ndarray  # signed weights of each session's calls
    cash: np.ndarray  # share of a tranche in cash once they are filled, with the proceeds of its shorts

    @classmethod
    def of(
        cls, calls: pl.DataFrame, closes: pl.DataFrame, calendar: pl.Series, horizon: int, legs: Legs
    ) -> BookMatrices:
        """Matrices of calls with a `side`, and of their instruments' closes, on a calendar that covers them."""
        symbols = calls["symbol"].unique().sort()
        wanted = closes.filter(pl.col("symbol").is_in(symbols.implode())).drop_nulls("close")
        bars = wanted.filter(pl.col("session").is_between(calendar.min(), calendar.max()))
        closing = np.full((len(calendar), len(symbols)), np.nan)
        closing[_cells(bars, calendar, symbols)] = bars["close"]
        row = np.arange(len(calendar))[:, None]
        observed = ~np.isnan(closing)
        last_bar = np.maximum.accumulate(np.where(observed, row, 0), axis=0)
        traded_later = wanted.group_by("symbol").agg(pl.col("session").max() > calendar.max()).sort("symbol")
        weights, cash = _entry_weights(calls, calendar, symbols, legs)
        return cls(
            sessions=calendar.to_list(),
            symbols=symbols.to_list(),
            horizon=horizon,
            prices=np.take_along_axis(closing, last_bar, axis=0),
            next_bar=np.minimum.accumulate(np.where(observed, row, len(calendar))[::-1], axis=0)[::-1],
            final_bar=np.where(traded_later["session"].to_numpy(), len(calendar), last_bar[-1]),
            weights=weights,
            cash=cash,
        )

    def holding_periods(self) -> Iterator[HoldingPeriod]:
        """Holding periods of all tranches: one begins in each session after the first; the last closes the book."""
        last = len(self.sessions) - 1
        held = np.zeros((self.horizon, len(self.symbols)))
        for entry in range(1, last):
            tranche = entry % self.horizon
            period = self._period(entry, min(entry + self.horizon, last), held[tranche])
            held[tranche] = 0.0
            held[tranche, period.names] = period.weights[-1]
            yield period
        if last > 0:
            # No fill in the last session; open positions are sold at their last close.
            nothing = np.empty(0, dtype=np.intp)
            yield HoldingPeriod(last, -held.sum(axis=0), nothing, np.empty((1, 0)), np.ones(1), ruined=False)

    def _period(self, entry: int, leave: int, held: np.ndarray) -> HoldingPeriod:
        # Calls of the session before are filled now.
        entering = self.weights[entry - 1]
        names = np.flatnonzero(entering)
        values = entering[names] * self._relative_prices(entry, leave, names)
        wealth = self.cash[entry - 1] + values.sum(axis=1)
        # Only shorts can ruin a tranche.
        ruin = np.flatnonzero(wealth * RUINOUS_LEVERAGE < np.abs(values).sum(axis=1))[:1]
        for row in ruin:
            values[row:], wealth[row:] = 0.0, 0.0
        return HoldingPeriod(entry, entering - held, names, values, wealth, ruined=len(ruin) > 0)

    def _relative_prices(self, entry: int, leave: int, names: np.ndarray) -> np.ndarray:
        """Price over fill price, shape (leave - entry + 1, len(names)), from the entry's session on.

        An instrument that does not trade at the entry is filled at its next close and stands at 1 until then.
        """
        filled_at = self._filled_at(entry, leave, names)
        path = self.prices[entry : leave + 1, names] / self.prices[filled_at, names]
        waiting = np.arange(entry, leave + 1)[:, None] < filled_at
        relative: np.ndarray = np.where(waiting, 1.0, path)
        return relative

    def _filled_at(self, entry: int, leave: int, names: np.ndarray) -> np.ndarray:
        rows: np.ndarray = np.minimum(self.next_bar[entry, names], leave)
        return rows

    def trade_prices(self, period: HoldingPeriod) -> np.ndarray:
        """Close at which each instrument of a period is traded, shape (n_symbols,).

        Without a bar in the session: the next close for a purchase, the last one for a sale.
        """
        prices: np.ndarray = self.prices[period.entry].copy()
        filled_at = self._filled_at(period.entry, period.leave, period.names)
        prices[period.names] = self.prices[filled_at, period.names]
        return prices

    def exits(self, period: HoldingPeriod) -> list[tuple[str, date, date]]:
        """Symbol, session of the fill and session of the last bar of what stops trading while held."""
        stopped = period.names[self.final_bar[period.names] < period.leave]
        entered = self.sessions[period.entry]
        return [(self.symbols[name], entered, self.sessions[self.final_bar[name]]) for name in stopped]


def _shares(parts: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """`parts` over `whole`; `otherwise` where the whole is zero."""
    shares: np.ndarray = np.divide(parts, whole, out=np.full(parts.shape, otherwise), where=whole > 0)
    return shares


def _cells(rows: pl.DataFrame, calendar: pl.Series, symbols: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    column = rows["symbol"].cast(pl.Enum(symbols)).to_physical()
    return calendar.search_sorted(rows["session"]).to_numpy(), column.to_numpy()


def _entry_weights(
    calls: pl.DataFrame, calendar: pl.Series, symbols: pl.Series, legs: Legs
) -> tuple[np.ndarray, np.ndarray]:
    """Signed weights per session and instrument, and the cash beside them.

    Raises PanelContractError if an instrument is called on both sides in one session.
    """
    side = np.zeros((len(calendar), len(symbols)))
    cells, sides = _cells(calls, calendar, symbols), calls["side"].to_numpy()
    side[cells] = sides
    # Of two calls in one cell the later one is kept.
    _refuse(calls.filter(side[cells] != sides), "a call is on one side; {count} are on the other side as well")
    if legs == "long":
        longs = _equal_weights(side > 0)
        return longs, np.asarray(1.0 - longs.any(axis=1))
    longs, shorts = 0.5 * _equal_weights(side > 0), 0.5 * _equal_weights(side < 0)
    return longs - shorts, np.asarray(1.0 - 0.5 * longs.any(axis=1) + 0.5 * shorts.any(axis=1))


def _equal_weights(called: np.ndarray) -> np.ndarray:
    return _shares(called.astype(np.float64), called.sum(axis=1, keepdims=True))


def sided_calls(calls: pl.DataFrame, legs: Legs) -> pl.DataFrame:
    """Calls as `symbol`, `session` and `side`; without calls to sell for a long book.

    Raises PanelContractError if a call is on no side.
    """
    sided = calls if "side" in calls.columns else calls.with_columns(side=pl.lit(1, dtype=pl.Int8))
    sided = sided.select("symbol", "session", "side")
    on_a_side = sided["side"].is_in([-1, 1]).fill_null(value=False)
    _refuse(sided.filter(~on_a_side), "a call is on a side, 1 to buy or -1 to sell short; {count} are not")
    return sided.filter(pl.col("side") > 0) if legs == "long" else sided


def require_closes(calls: pl.DataFrame, closes: pl.DataFrame) -> None:
    """Refuse calls of instruments without a close in the call's session."""
    strange = calls.join(closes.drop_nulls("close"), on=["symbol", "session"], how="anti", maintain_order="left")
    _refuse(strange, "a call needs the close that it was made on; {count} have none")


def _refuse(strange: pl.DataFrame, reason: str) -> None:
    if strange.height:
        row = strange.row(0, named=True)
        message = f"{reason.format(count=strange.height)}, first {row['symbol']!r} {row['session']}"
        raise PanelContractError(message)


def life_of_book(closes: pl.DataFrame, first: date, last: date, horizon: int) -> pl.Series:
    """Sessions of all instruments from the first that can make a call to the exit of the last call."""
    calendar = closes["session"].unique().sort()
    calendar = calendar.filter(calendar >= first)
    return calendar.head(int((calendar <= last).sum()) + horizon + 1)
