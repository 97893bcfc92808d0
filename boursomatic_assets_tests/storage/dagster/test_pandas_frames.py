from __future__ import annotations

from datetime import UTC, date, datetime

import pandas as pd
import polars as pl
import pytest

from boursomatic_assets.storage.dagster.pandas_frames import to_pandas

NEW_YEAR, SUMMER = datetime(2020, 1, 1, 9, 30), datetime(2020, 7, 1, 9, 30, tzinfo=UTC)  # noqa: DTZ001 (naive as stored)
COLUMNS = {
    "text": pl.Series(["a", "b", None]),
    "text_of_nulls": pl.Series([None, None, None], dtype=pl.String),
    "enumeration": pl.Series(["y", None, "x"], dtype=pl.Enum(["x", "y", "z"])),
    "date": pl.Series([date(2020, 1, 1), date(2020, 1, 2), None]),
    "moment": pl.Series([NEW_YEAR, NEW_YEAR, None]),
    "moment_utc": pl.Series([SUMMER, SUMMER, None]),
    "moment_paris": pl.Series([SUMMER, SUMMER, None]).dt.convert_time_zone("Europe/Paris"),
    "float": pl.Series([1.5, float("inf"), None]),
    "float32": pl.Series([1.5, 0.1, None], dtype=pl.Float32),
    "integer": pl.Series([1, 2, 3]),
    "integer_with_null": pl.Series([1, 2, None]),
    "small_integer": pl.Series([1, 2, 3], dtype=pl.Int8),
    "small_integer_with_null": pl.Series([1, 2, None], dtype=pl.Int8),
    "unsigned": pl.Series([1, 2, 3], dtype=pl.UInt32),
    "truth": pl.Series([True, False, True]),
    "truth_with_null": pl.Series([True, False, None]),
    "nothing": pl.Series([None, None, None], dtype=pl.Null),
    "structure": pl.Series([{"a": 1}, {"a": 2}, None]),
}


@pytest.mark.parametrize("rows", [3, 1, 0])
def test_to_pandas_equals_polars_with_pyarrow(rows: int) -> None:
    panel = pl.DataFrame(COLUMNS).head(rows)
    pd.testing.assert_frame_equal(to_pandas(panel), panel.to_pandas(), check_freq=False)
