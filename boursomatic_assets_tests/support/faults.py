"""Faults as they happen to a panel: from one session on, a column or the prices themselves are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

COLUMN_FAULTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "sign flipped": lambda column: -column,
    "unit error x 100": lambda column: 100 * column,
    "constant": lambda column: column.median(),
    "doubled": lambda column: 2 * column,
}


def with_fault(rows: pl.DataFrame, fault: str, column: str, since: date) -> pl.DataFrame:
    """Rows in which a column is wrong from a session on."""
    wrong = COLUMN_FAULTS[fault](pl.col(column))
    return rows.with_columns(pl.when(pl.col("session") >= since).then(wrong).otherwise(column).alias(column))


def with_doubled_swings(bars: pl.DataFrame, since: date) -> pl.DataFrame:
    """Bars whose returns and ranges are twice as wide from a session on."""
    factor = pl.when(pl.col("session") >= since).then(2.0).otherwise(1.0)
    growth = (pl.col("close") / pl.col("close").shift(1)).over("symbol").fill_null(1.0)
    path = (1 + factor * (growth - 1)).clip(0.05).cum_prod().over("symbol")
    moved = pl.col("close").first().over("symbol") * path
    reach = (1 + factor * (pl.col(name) / pl.col("close") - 1) for name in ("open", "high", "low"))
    return bars.with_columns(
        *((moved * each).alias(name) for name, each in zip(("open", "high", "low"), reach, strict=True)),
        close=moved,
    )
