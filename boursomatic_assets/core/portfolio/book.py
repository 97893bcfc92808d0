"""The book a reader of the calls could have held: overlapping tranches, marked to market daily, net of cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.market.sessions import on_sessions
from boursomatic_assets.core.portfolio.tranches import Legs, Market, life_of_book, require_closes, sided_calls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

BASIS_POINT = 1e-4

EXIT_SCHEMA: dict[str, pl.DataType] = {"symbol": pl.String(), "entered": pl.Date(), "last_session": pl.Date()}
POSITION_SCHEMA: dict[str, pl.DataType] = {"session": pl.Date(), "symbol": pl.String(), "weight": pl.Float64()}
TRADE_SCHEMA: dict[str, pl.DataType] = {
    "session": pl.Date(),
    "symbol": pl.String(),
    "weight_change": pl.Float64(),
    "price": pl.Float64(),
}


@dataclass(frozen=True)
class TrancheBook:
    """Daily history of a portfolio.

    Attributes
    ----------
    sessions : tuple of date
        From the first possible fill, one session after the first call, to the last exit.
    gross : ndarray of shape (n_sessions,)
        Simple return of the whole book per session, as fractions, before cost.
    turnover : ndarray of shape (n_sessions,)
        Traded value per session over the book's value, both sides counted.
    exposure : ndarray of shape (n_sessions,)
        Value held, longs and shorts added, over the book's value as the session begins. At most 1 for longs alone;
        shorts that lose can take it above.
    cost_bps : float
        The book's own cost, in basis points of the value traded.
    exits : DataFrame
        Positions closed at an instrument's last close because it stopped trading before the horizon: `symbol`,
        `entered` (session of the fill) and `last_session` (of its last bar).
    ruined : int
        Tranches whose shorts lost all that they had, closed at zero.
    market : Market or None
        What `positions` and `trades` are worked out from; None for a book that has neither, as an index.
    """

    sessions: tuple[date, ...]
    gross: np.ndarray
    turnover: np.ndarray
    exposure: np.ndarray
    cost_bps: float = 0.0
    exits: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EXIT_SCHEMA))
    ruined: int = 0
    market: Market | None = field(default=None, repr=False, compare=False)

    @property
    def returns(self) -> np.ndarray:
        """Return per session, net of the book's own cost."""
        return self.net(self.cost_bps)

    @property
    def early_exits(self) -> int:
        """Count of positions in `exits`."""
        return self.exits.height

    def net(self, cost_bps: float) -> np.ndarray:
        """Return per session less cost times turnover, shape (n_sessions,).

        A book cannot lose more than it has: where the cost would take the return below -1, it is -1.
        """
        return np.maximum(self.gross - self.turnover * cost_bps * BASIS_POINT, -1.0)


def closes_of_books(closes: pl.DataFrame, labels: pl.DataFrame, first: date) -> pl.DataFrame:
    """Closes that books over judged rows are marked by, whether or not a symbol was a member at the time.

    Parameters
    ----------
    closes : DataFrame
        Panel with `close` and `exchange` of the symbols' whole life.
    labels : DataFrame
        `symbol` and `session` of the label panel.
    first : date
        First judged session.

    Returns
    -------
    DataFrame
        The closes of the labels' symbols from `first` to the labels' last session.
    """
    symbols = labels["symbol"].unique()
    kept = pl.col("session").is_between(first, labels["session"].max()) & pl.col("symbol").is_in(symbols.implode())
    return closes.filter(kept).select(*PANEL_KEY, "close", "exchange")


def labels_hold_closes(closes: pl.DataFrame, labels: pl.DataFrame) -> bool:
    """Whether books would be the same by the closes of the labels alone, each of their days being a session.

    Parameters
    ----------
    closes : DataFrame
        As `closes_of_books` gives it, sorted by symbol and session.
    labels : DataFrame
        `symbol`, `session` and `close` of the label panel, sorted alike.

    Raises
    ------
    NoRowsError
        If there are no closes.
    """
    require_rows(closes, "books need closes")
    known = labels.filter(pl.col("session") >= closes["session"].min()).select(*PANEL_KEY, "close")
    return on_sessions(closes).select(known.columns).equals(known)


def tranche_book(  # noqa: PLR0913 (what is held, at which prices and how, are six things)
    calls: pl.DataFrame,
    closes: pl.DataFrame,
    horizon: int,
    cost_bps: float,
    *,
    legs: Legs = "long",
    span: tuple[date, date] | None = None,
) -> TrancheBook:
    """Account for a book that follows calls.

    Each session 1/`horizon` of the capital enters that session's calls in equal weights, and leaves `horizon`
    sessions later. A call made at the close of t is filled at the close of t + 1; inside a tranche the weights
    drift with the prices; a session without calls leaves its tranche in cash.

    Parameters
    ----------
    calls : DataFrame
        `symbol`, `session` of each call and optionally `side`, 1 to buy (as without the column) or -1 to sell
        short; the session is the one whose close made the call.
    closes : DataFrame
        Panel with `close` that covers the calls and the sessions after them, and with `exchange` where it is known.
    horizon : int
        Sessions that a position is held, and number of tranches.
    cost_bps : float
        Cost in basis points of the value traded, on each side.
    legs : {"long", "long_short"}
        `long` puts the whole tranche into its longs and leaves calls to sell aside. `long_short` puts half into
        the longs and half into the shorts; the half of a missing side stays in cash.
    span : tuple of date, optional
        First and last session that could have made a call, for books that must cover the same sessions; by default
        those of the calls. Sessions before the first call are spent in cash.

    Returns
    -------
    TrancheBook
        The book's return of a session is the mean over its tranches, less cost times turnover.

    Raises
    ------
    PanelContractError
        If a call's symbol has no close in the call's session, or a call is on both of the sides used or on none.

    Notes
    -----
    Overlapping tranches follow Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers".
    A tranche's wealth is 1 + sum_i w_i (p_i / p_i,fill - 1), with w_i below zero for shorts. One whose shorts lose
    more than it has is closed at zero, without cost: there is nothing left to pay it.
    An instrument without a bar in a session keeps its last close; one that stops trading is sold at it.
    Sessions are those of all markets together, as `panel_sessions` finds them: a bar on another day neither makes
    a session nor is traded on, and a call on such a day is not followed. Where exchanges with different holidays
    meet, a position leaves `horizon` sessions of that common calendar after its fill, a little before its own
    exchange has had as many, and keeps its last close on its own exchange's holidays.
    """
    return tranche_books({"": Followed(calls, legs, span)}, closes, horizon, cost_bps)[""]


@dataclass(frozen=True)
class Followed:
    """What one book follows, in the terms of `tranche_book`."""

    calls: pl.DataFrame
    legs: Legs = "long"
    span: tuple[date, date] | None = None


def tranche_books(
    followed: Mapping[str, Followed], closes: pl.DataFrame, horizon: int, cost_bps: float
) -> dict[str, TrancheBook]:
    """Account for several books as `tranche_book` does for one: the sessions of the closes are found once."""
    sided = {name: sided_calls(each.calls, each.legs) for name, each in followed.items()}
    require_closes(pl.concat(sided.values()).unique(PANEL_KEY, maintain_order=True), closes)
    traded = on_sessions(closes)
    return {name: _book(sided[name], each, traded, horizon, cost_bps) for name, each in followed.items()}


def _book(sided: pl.DataFrame, followed: Followed, closes: pl.DataFrame, horizon: int, cost: float) -> TrancheBook:
    calls = sided.join(closes, on=PANEL_KEY, how="semi", maintain_order="left")
    if calls.is_empty() and followed.span is None:
        return TrancheBook((), np.empty(0), np.empty(0), np.empty(0), cost)
    require_rows(closes, "books need closes on sessions")
    # Any: what polars says of a column's ends is wider than a date.
    ends: tuple[Any, Any] = followed.span or (calls["session"].min(), calls["session"].max())
    market = Market.around(calls, closes, life_of_book(closes, *ends, horizon), horizon, followed.legs)
    return _account(market, cost)


def _account(market: Market, cost_bps: float) -> TrancheBook:
    shape = len(market.sessions), market.horizon
    returns, exposure, turnover = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
    exits: list[tuple[str, date, date]] = []
    ruined = 0
    for turn in market.turns():
        turnover[turn.entry] = np.abs(turn.changes).sum() / market.horizon
        held = slice(turn.entry + 1, turn.entry + len(turn.wealth)), turn.entry % market.horizon
        returns[held], exposure[held] = turn.returns, turn.exposure
        exits += market.exits(turn)
        ruined += turn.ruined
    return TrancheBook(
        tuple(market.sessions[1:]),
        returns.mean(axis=1)[1:],
        turnover[1:],
        exposure.mean(axis=1)[1:],
        cost_bps,
        pl.DataFrame(exits, schema=EXIT_SCHEMA, orient="row"),
        ruined,
        market,
    )


def positions(book: TrancheBook) -> pl.DataFrame:
    """Everything that a book holds at each close, after the trades of that close.

    Returns
    -------
    DataFrame
        `session`, `symbol`, `weight`, sorted: the instrument's share of the book's value, over all tranches,
        drifted with the prices, below zero where it is short. A row per instrument held.

    Notes
    -----
    The gross return of a session is the sum over the positions of the session before of weight times the
    instrument's return. Money set aside for an instrument that has had no bar since counts as its position.
    """
    if book.market is None:
        return pl.DataFrame(schema=POSITION_SCHEMA)
    market = book.market
    weights = np.zeros(market.weights.shape)
    for turn in market.turns():
        held = slice(turn.entry, turn.entry + len(turn.wealth) - 1)
        weights[held, turn.names] += turn.weights[:-1] / market.horizon
    sessions, symbols, found = _listed(market, weights)
    return pl.DataFrame([sessions, symbols, found], schema=POSITION_SCHEMA)


def trades(book: TrancheBook) -> pl.DataFrame:
    """Everything that a book buys and sells.

    Returns
    -------
    DataFrame
        `session`, `symbol`, `weight_change` (bought, or below zero sold, over the book's value) and `price`,
        sorted. The absolute changes of a session sum to the book's turnover.

    Notes
    -----
    An instrument that leaves and enters in the same session trades the difference. What has no bar in the session
    is bought at its next close and sold at its last one. A ruined tranche leaves nothing to trade.
    """
    if book.market is None:
        return pl.DataFrame(schema=TRADE_SCHEMA)
    market = book.market
    changes, prices = np.zeros(market.weights.shape), np.zeros(market.weights.shape)
    for turn in market.turns():
        changes[turn.entry] = turn.changes / market.horizon
        prices[turn.entry] = market.trade_prices(turn)
    sessions, symbols, found = _listed(market, changes)
    return pl.DataFrame([sessions, symbols, found, pl.Series(prices[changes != 0])], schema=TRADE_SCHEMA)


def _listed(market: Market, matrix: np.ndarray) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Session, symbol and value of what is not zero in a session x instrument matrix."""
    rows, columns = np.nonzero(matrix)
    sessions, symbols = pl.Series(market.sessions, dtype=pl.Date), pl.Series(market.symbols, dtype=pl.String)
    return sessions.gather(rows), symbols.gather(columns), pl.Series(matrix[rows, columns])
