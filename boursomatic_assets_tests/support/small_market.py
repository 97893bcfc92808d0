"""A few symbols over a few weeks: prices that move a little each session, on the sessions of real calendars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import exchange_calendars
import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from boursomatic_assets_tests.support.catalog import versions_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

PRICES = ("open", "high", "low", "close")
# Checks cost as much again: only where a test looks at them.
CHECKED = dg.AssetSelection.assets("instruments", "price_bars", "features")
DAILY = CHECKED.without_checks()
LABELS = dg.AssetSelection.assets("labels").without_checks()
FEATURES = (
    "ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "atr_14", "volume_zscore",
)  # fmt: skip


def sessions_of(calendar: str, count: int, until: str = "2024-06-28") -> list[date]:
    """The last sessions of an exchange up to a date."""
    known = exchange_calendars.get_calendar(calendar, start="2023-01-01", end="2024-12-31").sessions
    return [moment.date() for moment in known[known <= until][-count:]]


def bars_on(sessions: list[date], symbol: str) -> pl.DataFrame:
    """Bars of a symbol whose price moves by at most 3 % a session; the same for the same name."""
    random = np.random.default_rng(sum(symbol.encode()))
    count = len(sessions)
    close = 100 * np.cumprod(1 + random.uniform(-0.03, 0.03, count))
    opening = close * (1 + random.uniform(-0.005, 0.005, count))
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": sessions,
            "open": opening,
            "high": np.maximum(opening, close) * 1.01,
            "low": np.minimum(opening, close) * 0.99,
            "close": close,
            "volume": random.integers(100_000, 200_000, count).astype(float),
        }
    )


def scaled(bars: pl.DataFrame, symbol: str, ratio: float, *, before: date | None = None) -> pl.DataFrame:
    """The bars with a symbol's prices multiplied, and its volume divided, before a session or everywhere."""
    chosen = (pl.col("symbol") == symbol) & (pl.lit(before is None) | (pl.col("session") < pl.lit(before)))
    factor = pl.when(chosen).then(ratio).otherwise(1.0)
    return bars.with_columns(*(pl.col(name) * factor for name in PRICES), volume=pl.col("volume") / factor)


def ingest(
    installation: Installation,
    bars: pl.DataFrame,
    path: Path,
    selection: dg.AssetSelection = DAILY,
) -> dg.ExecuteInProcessResult:
    """Write the bars where they were before, and bring the database up to date with the file."""
    bars.write_parquet(path)
    result = installation.execute(
        selection,
        platform={"provider": "files", "provider_path": str(path)},
        experiment={"horizon": 5},
    )
    assert result.success
    return result


def bars_in(installation: Installation) -> pl.DataFrame:
    """What is in the table of bars, without ids and times of writing."""
    return _panel(installation, "price_bars", "o AS open, h AS high, l AS low, c AS close, v AS volume, interval")


def features_in(installation: Installation) -> pl.DataFrame:
    """What is in the table of features, without ids and times of writing."""
    return _panel(installation, "features", ", ".join(FEATURES))


def _panel(installation: Installation, table: str, columns: str) -> pl.DataFrame:
    found = installation.database().read(
        f"SELECT symbol, ts::date AS session, {columns} FROM {table} t JOIN instruments i ON i.id = t.instrument_id"  # noqa: S608
    )
    return found.sort("symbol", "session")


def labels_in(installation: Installation) -> pl.DataFrame:
    """The stored asset `labels`."""
    return pl.read_parquet(installation.artifacts / "assets" / "labels.parquet")


def versions_of_symbol(installation: Installation, table: str, symbol: str) -> Mapping[str, tuple[object, ...]]:
    """The rows of one symbol, with the transaction that wrote each last."""
    ((number,),) = installation.ask(f"SELECT id::text FROM instruments WHERE symbol = '{symbol}'")  # noqa: S608
    return {
        key: row for key, row in versions_of(installation.database(), table).items() if str(number) in str(row[-1])
    }


def require_equal(left: pl.DataFrame, right: pl.DataFrame) -> None:
    """The same to one part in 1e9."""
    assert_frame_equal(left, right, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)
