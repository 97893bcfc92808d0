"""A book that follows calls: overlapping tranches, marked to market daily, net of cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.market.sessions import on_sessions
from boursomatic_assets.core.portfolio.tranches import BookMatrices, Legs, life_of_book, require_closes, sided_calls

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
    """Daily history of a portfolio, as arrays of shape (n_sessions,).

    `sessions` last from the first possible fill, one session after the first call, to the last exit.
    """

    sessions: tuple[date, ...]
    gross: np.ndarray  # simple return of the whole book, as fractions, before cost
    turnover: np.ndarray  # traded value over the book's value, both sides counted
    exposure: np.ndarray  # longs plus shorts over the value as the session begins; above 1 only by losing shorts
    cost_bps: float = 0.0  # the book's own cost, in basis points of the value traded
    # Positions closed at an instrument's last close, before their horizon.
    exits: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EXIT_SCHEMA))
    ruined: int = 0  # tranches closed at zero because their shorts lost everything
    # Source of `positions` and `trades`; an index has none.
    matrices: BookMatrices | None = field(default=None, repr=False, compare=False)

    @property
    def returns(self) -> np.ndarray:
        """Return per session, net of the book's own cost."""
        return self.net(self.cost_bps)

    @property
    def early_exits(self) -> int:
        """Number of `exits`."""
        return self.exits.height

    def net(self, cost_bps: float) -> np.ndarray:
        """Return per session less cost times turnover, shape (n_sessions,); at least -1."""
        return np.maximum(self.gross - self.turnover * cost_bps * BASIS_POINT, -1.0)


def closes_of_books(closes: pl.DataFrame, labels: pl.DataFrame, first: date) -> pl.DataFrame:
    """Closes by which books over judged rows are marked, also while a symbol is no member.

    `closes` covers the symbols' whole life. The result has the labels' symbols from the `first` judged session to
    the labels' last one.
    """
    symbols = labels["symbol"].unique()
    kept = pl.col("session").is_between(first, labels["session"].max()) & pl.col("symbol").is_in(symbols.implode())
    return closes.filter(kept).select(*PANEL_KEY, "close", "exchange")


def labels_hold_closes(closes: pl.DataFrame, labels: pl.DataFrame) -> bool:
    """Whether the labels' own closes would give the same books, each of their days being a session.

    `closes` is the result of `closes_of_books`; `labels` has `symbol`, `session` and `close`. Both are sorted.
    Raises NoRowsError if there are no closes.
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
    sessions later. A call made at the close of t is filled at the close of t + 1. Inside a tranche the weights
    drift with the prices. A session without calls leaves its tranche in cash.

    Parameters
    ----------
    calls : DataFrame
        `symbol` and `session` whose close made the call, and optionally `side`: 1 to buy, the default, or -1 to
        sell short.
    closes : DataFrame
        Panel with `close` that covers the calls and the sessions after them, and with `exchange` where it is known.
    horizon : int
        Sessions that a position is held, and number of tranches.
    cost_bps : float
        Cost in basis points of the value traded, on each side.
    legs : {"long", "long_short"}
        `long` puts the whole tranche into its longs and ignores calls to sell. `long_short` puts half into the
        longs and half into the shorts; the half of a missing side stays in cash.
    span : tuple of date, optional
        First and last session that could have made a call, by default those of the calls, so that books can cover
        the same sessions. Sessions before the first call are spent in cash.

    Returns
    -------
    TrancheBook
        The book's return of a session is the mean over its tranches, less cost times turnover.

    Raises
    ------
    PanelContractError
        If a call's symbol has no close in the call's session, or a call is on both sides or on none.

    Notes
    -----
    Overlapping tranches follow Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers". A
    tranche's wealth is 1 + sum_i w_i (p_i / p_i,fill - 1), with w_i below zero for shorts. A tranche whose shorts
    lose more than it has is closed at zero, without cost. An instrument without a bar in a session keeps its last
    close; one that stops trading is sold at it. Sessions are those of all markets together, as `panel_sessions`
    finds them. A bar on another day is no session and is not traded on, and a call on such a day is not followed.
    With exchanges of different holidays, a position leaves `horizon` sessions of that common calendar after its
    fill, a little before its own exchange has had as many, and keeps its last close on its own exchange's holidays.
    """
    return tranche_books({"": BookSpec(calls, legs, span)}, closes, horizon, cost_bps)[""]


@dataclass(frozen=True)
class BookSpec:
    """Calls, legs and span of one book, as in `tranche_book`."""

    calls: pl.DataFrame
    legs: Legs = "long"
    span: tuple[date, date] | None = None


def tranche_books(
    specs: Mapping[str, BookSpec], closes: pl.DataFrame, horizon: int, cost_bps: float
) -> dict[str, TrancheBook]:
    """Account for several books as `tranche_book` does for one; their sessions are determined once."""
    sided = {name: sided_calls(spec.calls, spec.legs) for name, spec in specs.items()}
    require_closes(pl.concat(sided.values()).unique(PANEL_KEY, maintain_order=True), closes)
    traded = on_sessions(closes)
    return {name: _book(sided[name], spec, traded, horizon, cost_bps) for name, spec in specs.items()}


def _book(sided: pl.DataFrame, spec: BookSpec, closes: pl.DataFrame, horizon: int, cost: float) -> TrancheBook:
    calls = sided.join(closes, on=PANEL_KEY, how="semi", maintain_order="left")
    if calls.is_empty() and spec.span is None:
        return TrancheBook((), np.empty(0), np.empty(0), np.empty(0), cost)
    require_rows(closes, "books need closes on sessions")
    # Any: polars types the ends of a column more widely than a date.
    ends: tuple[Any, Any] = spec.span or (calls["session"].min(), calls["session"].max())
    matrices = BookMatrices.of(calls, closes, life_of_book(closes, *ends, horizon), horizon, spec.legs)
    return _account(matrices, cost)


def _account(matrices: BookMatrices, cost_bps: float) -> TrancheBook:
    shape = len(matrices.sessions), matrices.horizon
    returns, exposure, turnover = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
    exits: list[tuple[str, date, date]] = []
    ruined = 0
    for period in matrices.holding_periods():
        turnover[period.entry] = np.abs(period.changes).sum() / matrices.horizon
        held = slice(period.entry + 1, period.leave + 1), period.entry % matrices.horizon
        returns[held], exposure[held] = period.returns, period.exposure
        exits += matrices.exits(period)
        ruined += period.ruined
    return TrancheBook(
        tuple(matrices.sessions[1:]),
        returns.mean(axis=1)[1:],
        turnover[1:],
        exposure.mean(axis=1)[1:],
        cost_bps,
        pl.DataFrame(exits, schema=EXIT_SCHEMA, orient="row"),
        ruined,
        matrices,
    )


def positions(book: TrancheBook) -> pl.DataFrame:
    """Holdings of a book at each close, after the trades of that close: `session`, `symbol`, `weight`, sorted.

    A weight is the instrument's share of the book's value over all tranches, drifted with the prices, below zero
    for a short. The gross return of a session is the sum of weight times the instrument's return over the positions
    of the session before. Money set aside for an instrument that has had no bar since counts as its position.
    """
    if book.matrices is None:
        return pl.DataFrame(schema=POSITION_SCHEMA)
    matrices = book.matrices
    weights = np.zeros(matrices.weights.shape)
    for period in matrices.holding_periods():
        weights[period.entry : period.leave, period.names] += period.weights[:-1] / matrices.horizon
    return pl.DataFrame(_nonzero(matrices, weights), schema=POSITION_SCHEMA)


def trades(book: TrancheBook) -> pl.DataFrame:
    """Trades of a book: `session`, `symbol`, `weight_change` over the book's value, and `price`, sorted.

    A weight change below zero is a sale; the absolute changes of a session sum to the book's turnover. An
    instrument that leaves and enters in the same session trades the difference. Without a bar in the session it is
    bought at its next close and sold at its last one. A ruined tranche leaves nothing to trade.
    """
    if book.matrices is None:
        return pl.DataFrame(schema=TRADE_SCHEMA)
    matrices = book.matrices
    changes, prices = np.zeros(matrices.weights.shape), np.zeros(matrices.weights.shape)
    for period in matrices.holding_periods():
        changes[period.entry] = period.changes / matrices.horizon
        prices[period.entry] = matrices.trade_prices(period)
    traded_at = pl.Series(prices[changes != 0])
    return pl.DataFrame([*_nonzero(matrices, changes), traded_at], schema=TRADE_SCHEMA)


def _nonzero(matrices: BookMatrices, values: np.ndarray) -> list[pl.Series]:
    """Session, symbol and value of each nonzero cell of a session x instrument matrix."""
    rows, columns = np.nonzero(values)
    sessions, symbols = pl.Series(matrices.sessions, dtype=pl.Date), pl.Series(matrices.symbols, dtype=pl.String)
    return [sessions.gather(rows), symbols.gather(columns), pl.Series(values[rows, columns])]
