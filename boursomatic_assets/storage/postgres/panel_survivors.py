"""Survivors of a panel, from the bars and memberships that the database holds."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.evaluation.survivors import SPAN_SCHEMA, Survivors, find_survivors
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_spans
from boursomatic_assets.storage.postgres.membership_table import read_members
from boursomatic_assets.storage.postgres.tables import KEYS


def panel_survivors(database: Database, panel: pl.DataFrame) -> Survivors:
    """Count which symbols of a panel end before it does, and the members of each year that it holds.

    Parameters
    ----------
    database : Database
        Its bars say how long a symbol trades: the rows of a panel of members end where a membership ends.
    panel : DataFrame
        `symbol` and `session`; bars before its first session do not count.

    Returns
    -------
    Survivors

    Raises
    ------
    NotEnoughHistoryError
        If no symbol of the panel has a bar.
    """
    exchanges = database.read(f"WITH {KEYS} SELECT symbol, exchange FROM keys").cast(pl.String)  # noqa: S608
    spans = read_spans(database, since=panel["session"].min())  # type: ignore[arg-type]
    own = spans.filter(pl.col("symbol").is_in(panel["symbol"].unique().to_list()))
    placed = own.join(exchanges, on="symbol", how="left", maintain_order="left")
    return find_survivors(placed.select(list(SPAN_SCHEMA)), read_members(database))
