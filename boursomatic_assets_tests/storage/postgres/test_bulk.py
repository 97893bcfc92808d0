from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.storage.postgres.database import STAGING, execute, fetch, stage

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


def test_stage_writes_enumerations_and_untyped_columns_as_text(database: Database) -> None:
    frame = pl.DataFrame(
        {
            "label": pl.Series(["SELL", None], dtype=pl.Enum(["SELL", "BUY"])),
            "place": pl.Series(["a", "b"], dtype=pl.Categorical),
            "note": pl.Series([None, None], dtype=pl.Null),
            "count": [1, 2],
        }
    )
    with database.bulk() as cursor:
        stage(cursor, frame)
        found = fetch(cursor, f"SELECT * FROM {STAGING} ORDER BY count")  # noqa: S608
    texts = {"label": ["SELL", None], "place": ["a", "b"], "note": [None, None]}
    assert found.equals(pl.DataFrame({**texts, "count": [1, 2]}, schema_overrides=dict.fromkeys(texts, pl.String)))


def test_execute_and_fetch_bind_parameters(database: Database) -> None:
    with database.bulk() as cursor:
        execute(cursor, "CREATE TEMPORARY TABLE kept (name text, number bigint, share double precision)")
        execute(cursor, "INSERT INTO kept VALUES ($1, $2, $3)", ["it's", 2, 0.5])
        assert fetch(cursor, "SELECT * FROM kept WHERE number = $1", [2]).rows() == [("it's", 2, 0.5)]
        assert fetch(cursor, "SELECT * FROM kept WHERE number = $1", [3]).rows() == []
