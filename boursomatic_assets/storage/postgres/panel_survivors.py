"""Survivorship of a panel, from the stored bars and memberships."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.evaluation.survivors import SPAN_SCHEMA, Survivors, find_survivors
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_spans
from boursomatic_assets.storage.postgres.membership_table import read_members
from boursomatic_assets.storage.postgres.tables import EXCHANGES


def panel_survivors(database: Database, panel: pl.DataFrame) -> Survivors:
    """Count the symbols of a panel that end before it does, and the universe members of each year that it holds.

    A symbol trades as long as it has bars: its rows in a panel of members end with the membership. Bars before the
    panel's first session do not count. Raises NotEnoughHistoryError if no symbol has a bar.
    """
    exchanges = database.read(EXCHANGES).cast(pl.String)
    spans = read_spans(database, since=panel["session"].min())  # type: ignore[arg-type]
    own = spans.filter(pl.col("symbol").is_in(panel["symbol"].unique().to_list()))
    placed = own.join(exchanges, on="symbol", how="left", maintain_order="left")
    return find_survivors(placed.select(list(SPAN_SCHEMA)), read_members(database))
