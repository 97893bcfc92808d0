"""Panels as pandas frames; polars' own `to_pandas` needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import pandas as pd


def to_pandas(panel: pl.DataFrame) -> pd.DataFrame:
    """Convert a panel column by column, to the types that polars with pyarrow gives.

    Nulls become NaN or NaT, dates timestamps, enumerations ordered categories; other types stay Python objects.
    """
    import pandas as pd

    return pd.DataFrame({column.name: _values(column) for column in panel}, index=range(panel.height))


def _values(column: pl.Series) -> Any:  # noqa: ANN401 (what pandas takes as a column)
    import pandas as pd

    match column.dtype:
        case pl.Enum() as kind:
            codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
            values: Any = pd.Categorical.from_codes(codes, pd.Index(kind.categories.to_list()), ordered=True)
        case pl.String():
            values = pd.array(column.to_list(), dtype="str")
        case pl.Date():
            values = column.cast(pl.Datetime("ms")).to_numpy()
        case pl.Datetime(time_zone=str(zone)):
            moments = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            values = pd.DatetimeIndex(moments.to_numpy(), tz="UTC").tz_convert(zone)
        case kind if kind.is_integer() and column.has_nulls():
            values = column.cast(pl.Float64).to_numpy()
        case kind if kind.is_numeric() or kind == pl.Datetime or (kind == pl.Boolean and not column.has_nulls()):
            values = column.to_numpy()
        case _:
            values = pd.Series(column.to_list(), dtype=object)
    return values
