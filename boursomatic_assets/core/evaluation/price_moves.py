"""Moves of single prices that are more likely a source error than the market."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.evaluation.plausibility import (
    HIGHEST_MOVE,
    HIGHEST_POSSIBLE_MOVE,
    INSTRUMENT_GROWTH,
    LOWEST_MOVE,
    LOWEST_POSSIBLE_MOVE,
    UNDONE_TO,
    UNDONE_WITHIN,
    growth_bound,
)
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date


@dataclass(frozen=True)
class Move:
    """A close implausibly far from the close before; `ratio` is one over the other.

    `back_on` and `back_ratio` describe the suspect move that undoes it, if any. `possible` says whether a listed
    company can have moved so.
    """

    symbol: str
    session: date
    ratio: float
    back_on: date | None
    back_ratio: float | None
    possible: bool

    def __str__(self) -> str:
        """For people: `ENGI.PA 2009-03-02 x86 (back on 2009-03-03)`."""
        size = f"\N{MULTIPLICATION SIGN}{self.ratio:.3g}" if self.ratio >= 1 else f"{100 * (self.ratio - 1):.3g} %"
        back = f" (back on {self.back_on})" if self.back_on else ""
        return f"{self.symbol} {self.session} {size}{back}"

    def to_json(self) -> dict[str, Any]:
        """Strict JSON, dates in ISO 8601."""
        dates = {"session": str(self.session), "back_on": None if self.back_on is None else str(self.back_on)}
        return asdict(self) | dates


def close_ratios(closes: pl.DataFrame) -> pl.DataFrame:
    """Each close over the close before, per symbol; rows without a positive, finite close are dropped.

    Adds `explained` (False where absent), `ratio` (null on the first bar) and `bar` (number of the bar, from 0).
    """
    close = pl.col("close")
    marked = closes if "explained" in closes.columns else closes.with_columns(explained=pl.lit(value=False))
    known = (
        marked.with_columns(pl.col("explained").fill_null(value=False))
        .filter(close.is_finite() & (close > 0))
        .sort(PANEL_KEY)
    )
    return known.with_columns(
        ratio=(close / close.shift(1)).over("symbol"), bar=pl.int_range(pl.len()).over("symbol")
    )


def suspect_moves(closes: pl.DataFrame) -> list[Move]:
    """Find closes below a quarter, or above four times, of the close before, by symbol and session.

    Moves marked `explained` are real and left out. A move and the one that undoes it (back within a factor of two)
    are one. Impossible are moves beyond ten times or one fiftieth, and moves undone within five bars.
    """
    ratios = close_ratios(closes)
    found = ratios.filter(~pl.col("ratio").is_between(LOWEST_MOVE, HIGHEST_MOVE) & ~pl.col("explained"))
    return [
        move
        for _, rows in found.group_by("symbol", maintain_order=True)
        for move in _paired(list(rows.iter_rows(named=True)))
    ]


def _paired(rows: Sequence[dict[str, Any]]) -> list[Move]:
    """Moves of one symbol, each merged with the next where that undoes it."""
    found, place = [], 0
    while place < len(rows):
        row, back = rows[place], rows[place + 1] if place + 1 < len(rows) else None
        if back is not None and not 1 / UNDONE_TO <= back["close"] * row["ratio"] / row["close"] <= UNDONE_TO:
            back = None
        soon = back is not None and back["bar"] - row["bar"] <= UNDONE_WITHIN
        possible = LOWEST_POSSIBLE_MOVE <= row["ratio"] <= HIGHEST_POSSIBLE_MOVE and not soon
        found.append(
            Move(
                row["symbol"],
                row["session"],
                row["ratio"],
                None if back is None else back["session"],
                None if back is None else back["ratio"],
                possible,
            )
        )
        place += 1 if back is None else 2
    return found


def suspect_growth(closes: pl.DataFrame) -> pl.DataFrame:
    """Instruments that grew more than a hundredfold a year, the largest first: `symbol`, `first`, `last`, `growth`.

    Explained moves do not count. A span below a year has the bound of a year.
    """
    real = pl.when(pl.col("explained")).then(pl.col("ratio")).otherwise(1.0)
    spans = close_ratios(closes).group_by("symbol").agg(
        first=pl.col("session").first(),
        last=pl.col("session").last(),
        growth=pl.col("close").last() / pl.col("close").first() / real.product(),
        bars=pl.len(),
    )  # fmt: skip
    bounds = [growth_bound(INSTRUMENT_GROWTH, (bars - 1) / SESSIONS_PER_YEAR) for bars in spans["bars"]]
    grown = spans.with_columns(bound=pl.Series(bounds, dtype=pl.Float64)).filter(pl.col("growth") > pl.col("bound"))
    return grown.select("symbol", "first", "last", "growth").sort("growth", "symbol", descending=[True, False])
