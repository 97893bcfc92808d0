"""The book a reader of the calls could have held: overlapping tranches, marked to market daily, net of cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.errors import PanelContractError

if TYPE_CHECKING:
    from datetime import date

BASIS_POINT = 1e-4


@dataclass(frozen=True)
class TrancheBook:
    """Daily history of a tranche portfolio.

    Attributes
    ----------
    sessions : tuple of date
        From the first possible fill, one session after the first call, to the last exit.
    returns : ndarray of shape (n_sessions,)
        Simple return of the whole book per session, as fractions, net of cost.
    turnover : ndarray of shape (n_sessions,)
        Traded value per session over the book's value, both sides counted.
    exposure : ndarray of shape (n_sessions,)
        Share of the capital invested over the session.
    early_exits : int
        Positions closed at an instrument's last close because it stopped trading before the horizon.
    """

    sessions: tuple[date, ...]
    returns: np.ndarray
    turnover: np.ndarray
    exposure: np.ndarray
    early_exits: int


def tranche_book(calls: pl.DataFrame, closes: pl.DataFrame, horizon: int, cost_bps: float) -> TrancheBook:
    """Account for a long-only book that follows calls.

    Each session 1/`horizon` of the capital enters that session's calls in equal weights, and leaves `horizon`
    sessions later. A call made at the close of t is filled at the close of t + 1; inside a tranche the weights
    drift with the prices; a session without calls leaves its tranche in cash.

    Parameters
    ----------
    calls : DataFrame
        `symbol`, `session` of each call to buy; the session is the one whose close made the call.
    closes : DataFrame
        Panel with `close` that covers the calls and the sessions after them.
    horizon : int
        Sessions that a position is held, and number of tranches.
    cost_bps : float
        Cost in basis points of the value traded, on each side.

    Returns
    -------
    TrancheBook
        The book's return of a session is the mean over its tranches, less cost times turnover.

    Raises
    ------
    PanelContractError
        If a call's symbol has no close in the call's session.

    Notes
    -----
    Overlapping tranches follow Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers".
    An instrument without a bar in a session keeps its last close; one that stops trading is sold at it.
    """
    if calls.is_empty():
        return TrancheBook((), np.empty(0), np.empty(0), np.empty(0), 0)
    _require_closes(calls, closes)
    market = _Market.around(calls, closes, horizon)
    last = len(market.sessions) - 1
    returns, exposure = np.zeros((last + 1, horizon)), np.zeros((last + 1, horizon))
    turnover = np.zeros(last + 1)
    held = np.zeros((horizon, len(market.symbols)))
    early_exits = 0
    for entry in range(1, last + 1):
        tranche = entry % horizon
        # Signals of the session before are filled now; on the last session there is nothing left to earn.
        entering = market.weights[entry - 1] if entry < last else np.zeros(len(market.symbols))
        turnover[entry] = np.abs(entering - held[tranche]).sum() / horizon
        held[tranche] = 0.0
        names = np.flatnonzero(entering)
        if len(names):
            leave = min(entry + horizon, last)
            values = entering[names] * market.relative_prices(entry, leave, names)
            value = values.sum(axis=1)
            returns[entry + 1 : leave + 1, tranche] = value[1:] / value[:-1] - 1
            exposure[entry + 1 : leave + 1, tranche] = 1.0
            held[tranche, names] = values[-1] / value[-1]
            early_exits += int((market.final_bar[names] < leave).sum())
    # What the end of the data leaves open is sold at its last close.
    turnover[last] += held.sum() / horizon
    net = returns.mean(axis=1) - turnover * cost_bps * BASIS_POINT
    return TrancheBook(tuple(market.sessions[1:]), net[1:], turnover[1:], exposure.mean(axis=1)[1:], early_exits)


def _require_closes(calls: pl.DataFrame, closes: pl.DataFrame) -> None:
    strange = calls.join(closes, on=["symbol", "session"], how="anti")
    if strange.height:
        row = strange.row(0, named=True)
        message = (
            f"a call needs the close that it was made on; {strange.height} have none, first {row['symbol']!r} "
            f"{row['session']}"
        )
        raise PanelContractError(message)


@dataclass(frozen=True)
class _Market:
    """Prices and entry weights as session x instrument matrices over the life of a book.

    The life runs from the first call to the exit of the last (filled one session later, held `horizon`
    sessions), or to the end of the data. `next_bar` is the row of an instrument's next bar at or after each
    session, `final_bar` the row of its very last one (`len(sessions)` when that is after the life).
    """

    sessions: list[date]
    symbols: list[str]
    prices: np.ndarray
    next_bar: np.ndarray
    final_bar: np.ndarray
    weights: np.ndarray

    @classmethod
    def around(cls, calls: pl.DataFrame, closes: pl.DataFrame, horizon: int) -> _Market:
        calendar = closes["session"].unique().sort()
        calendar = calendar.filter(calendar >= calls["session"].min())
        calendar = calendar.head(int((calendar <= calls["session"].max()).sum()) + horizon + 1)
        symbols = calls["symbol"].unique().sort()
        wanted = closes.filter(pl.col("symbol").is_in(symbols.implode()))
        grid = calendar.to_frame("session").join(
            wanted.pivot("symbol", index="session", values="close"), on="session", how="left", maintain_order="left"
        )
        table = grid.select(symbols.to_list())
        observed = table.select(pl.all().is_not_null()).to_numpy()
        rows = np.where(observed, np.arange(len(calendar))[:, None], len(calendar))
        traded_later = wanted.group_by("symbol").agg(pl.col("session").max() > calendar.max()).sort("symbol")
        last_row = len(calendar) - 1 - np.argmax(observed[::-1], axis=0)
        return cls(
            sessions=calendar.to_list(),
            symbols=symbols.to_list(),
            prices=table.fill_null(strategy="forward").to_numpy().astype(np.float64),
            next_bar=np.minimum.accumulate(rows[::-1], axis=0)[::-1],
            final_bar=np.where(traded_later["session"].to_numpy(), len(calendar), last_row),
            weights=_equal_weights(calls, calendar, symbols),
        )

    def relative_prices(self, entry: int, leave: int, names: np.ndarray) -> np.ndarray:
        """Price over fill price, shape (leave - entry + 1, len(names)), from the entry's session on.

        An instrument that does not trade at the entry is filled at its next close and stands at 1 until then.
        """
        filled_at = np.minimum(self.next_bar[entry, names], leave)
        path = self.prices[entry : leave + 1, names] / self.prices[filled_at, names]
        waiting = np.arange(entry, leave + 1)[:, None] < filled_at
        return np.where(waiting, 1.0, path)


def _equal_weights(calls: pl.DataFrame, calendar: pl.Series, symbols: pl.Series) -> np.ndarray:
    weights = np.zeros((len(calendar), len(symbols)))
    weights[calendar.search_sorted(calls["session"]), symbols.search_sorted(calls["symbol"])] = 1.0
    called = weights.sum(axis=1, keepdims=True)
    np.divide(weights, called, out=weights, where=called > 0)
    return weights
