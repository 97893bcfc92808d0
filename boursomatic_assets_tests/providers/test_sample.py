from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, check_bars
from boursomatic_assets.providers import sample
from boursomatic_assets.providers.sample import SampleProvider
from boursomatic_assets.providers.source import Outcome
from boursomatic_assets.settings import Settings
from boursomatic_assets_tests.support.oracles import sample_bars

SYMBOLS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return SampleProvider.from_settings(Settings.from_environment({})).bars()


def test_the_sample_has_five_symbols_and_12_154_bars(bars: pl.DataFrame) -> None:
    assert bars.height == 12_154
    assert bars["symbol"].unique().sort().to_list() == SYMBOLS
    assert bars.schema == pl.Schema(BAR_SCHEMA)
    assert (bars["session"].min(), bars["session"].max()) == (date(2000, 3, 1), date(2013, 3, 1))


def test_the_bundled_file_holds_what_the_package_it_is_from_holds() -> None:
    stored = pl.read_parquet(Path(sample.__file__).with_name("sample.parquet"))
    source = pl.from_pandas(sample_bars()).with_columns(pl.col("session").cast(pl.Date))
    assert stored.equals(source)


def test_every_bar_of_the_sample_keeps_the_contract(bars: pl.DataFrame) -> None:
    checked = check_bars(bars, today=date(2013, 3, 1))
    assert checked.rejected.is_empty()
    assert checked.accepted.height == 12_154


def test_prices_are_scaled_to_the_adjusted_close_and_volume_is_not(bars: pl.DataFrame) -> None:
    raw = sample_bars()
    assert bars["symbol"].to_list() == raw["symbol"].to_list()
    factor = (raw["adj_close"] / raw["close"]).to_numpy()
    for name in ("open", "high", "low"):
        np.testing.assert_array_equal(bars[name].to_numpy(), raw[name].to_numpy() * factor)
    np.testing.assert_allclose(bars["close"].to_numpy(), raw["adj_close"].to_numpy(), rtol=1e-15)
    np.testing.assert_array_equal(bars["volume"].to_numpy(), raw["volume"].to_numpy())
    # A split is no fall of the price: AAPL, two for one on 2005-02-28, fell from 88.99 to 44.86 unadjusted.
    apple = bars.filter(pl.col("symbol") == "AAPL").sort("session")
    change = apple.with_columns(change=pl.col("close").pct_change()).filter(pl.col("session") == date(2005, 2, 28))
    assert change["change"].item() == pytest.approx(44.86 / 44.495 - 1, abs=1e-3)


def test_the_five_companies_are_the_instruments(bars: pl.DataFrame) -> None:
    instruments = SampleProvider().instruments()
    assert instruments.schema == pl.Schema(INSTRUMENT_SCHEMA)
    assert instruments["symbol"].to_list() == SYMBOLS == bars["symbol"].unique().sort().to_list()
    assert instruments["exchange"].to_list() == ["XNAS", "XNAS", "XNAS", "XNYS", "XNAS"]
    assert instruments["market_cap_bucket"].unique().to_list() == ["large"]
    assert instruments["name"].null_count() == instruments["sector"].null_count() == 0
    assert instruments["currency"].to_list() == ["USD"] * 5


def test_the_sample_is_delivered_at_once_without_splits_in_its_prices(bars: pl.DataFrame) -> None:
    provider = SampleProvider()
    assert provider.fetches_by_symbol is False
    (batch,) = provider.batches()
    assert batch.bars.equals(bars)
    assert batch.adjusted is True
    assert [report.symbol for report in batch.reports] == SYMBOLS
    raw = sample_bars().groupby("symbol")["session"].agg(["size", "min", "max"])
    for report in batch.reports:
        assert (report.outcome, report.source) == (Outcome.FETCHED, "sample")
        found = (report.rows, str(report.first), str(report.last))
        assert found == tuple(
            str(value)[:10] if name != "size" else value for name, value in raw.loc[report.symbol].items()
        )


def test_the_sample_says_what_it_is() -> None:
    assert "bokeh_sampledata" in SampleProvider().description
