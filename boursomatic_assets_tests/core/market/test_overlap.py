from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.core.market.overlap import SAME_CLOSE, SAME_PRICE, compare_overlap
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, weekdays

COLUMNS = ["symbol", "sessions", "price_gap", "close_gap", "session", "stored_close", "delivered_close"]


def test_compare_overlap_by_hand() -> None:
    stored = flat_bars({"AAA": [100.0, 100.0, 100.0], "BBB": [50.0, 50.0]})
    delivered = flat_bars({"AAA": [100.0, 98.0, 101.0], "BBB": [50.0, 50.0]})
    # 98 / 100 - 1 = -2 % on the second weekday is further off than 101 / 100 - 1 = 1 % on the third
    first, second = compare_overlap(stored, delivered).iter_rows()
    assert first == ("AAA", 3, pytest.approx(0.02), pytest.approx(0.02), weekdays(2)[1], 100.0, 98.0)
    assert second[:4] == ("BBB", 2, 0.0, 0.0)
    assert compare_overlap(stored, delivered).columns == COLUMNS


# 103 / 100 - 1 = 3 %; a volume is no price
@pytest.mark.parametrize(("name", "gap"), [("open", 0.03), ("high", 0.03), ("low", 0.03), ("volume", 0.0)])
def test_compare_overlap_price_gap_covers_all_prices(name: str, gap: float) -> None:
    stored = flat_bars({"AAA": [100.0, 100.0]})
    found = compare_overlap(stored, stored.with_columns(pl.lit(103.0).alias(name)))
    assert found["price_gap"].to_list() == [pytest.approx(gap)]
    assert found["close_gap"].to_list() == [0.0]


def test_compare_overlap_of_common_sessions_only() -> None:
    stored = flat_bars({"AAA": [100.0, 100.0], "BBB": [1.0]})
    delivered = flat_bars({"AAA": [None, 100.0, 500.0], "CCC": [1.0]})
    assert compare_overlap(stored, delivered).select("symbol", "sessions", "close_gap").rows() == [("AAA", 1, 0.0)]
    apart = compare_overlap(stored, flat_bars({"CCC": [1.0]}))
    assert apart.is_empty()
    assert apart.columns == COLUMNS
    assert compare_overlap(stored.clear(), delivered).is_empty()


def test_compare_overlap_tells_rounding_from_a_dividend() -> None:
    stored = flat_bars({"AAA": [100.0], "BBB": [100.0], "CCC": [100.0]})
    # a ten-millionth off; 25 cents of 100 paid out; half the price
    delivered = flat_bars({"AAA": [100.00001], "BBB": [99.75], "CCC": [50.0]})
    found = compare_overlap(stored, delivered)
    assert (found["price_gap"] <= SAME_PRICE).to_list() == [True, False, False]
    assert (found["close_gap"] <= SAME_CLOSE).to_list() == [True, True, False]


@given(bar_panels(min_sessions=2, max_sessions=12), st.integers(0, 2**32 - 1))
def test_compare_overlap_agrees_with_pandas(bars: pl.DataFrame, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = [pl.col(name) * pl.Series(rng.choice([1.0, 0.99, 1.02, 0.5], bars.height)) for name in PRICE_COLUMNS]
    delivered = bars.with_columns(noise).filter(pl.Series(rng.random(bars.height) < 0.8, dtype=pl.Boolean))
    stored = bars.filter(pl.Series(rng.random(bars.height) < 0.8, dtype=pl.Boolean))
    both = stored.to_pandas().merge(delivered.to_pandas(), on=["symbol", "session"], suffixes=("", "_new"))
    gaps = pd.DataFrame({name: (both[f"{name}_new"] / both[name] - 1).abs() for name in PRICE_COLUMNS})
    both = both.assign(price_gap=gaps.max(axis=1), close_gap=gaps["close"])
    expected = both.groupby("symbol").agg(
        sessions=("session", "size"), price_gap=("price_gap", "max"), close_gap=("close_gap", "max")
    )
    found = compare_overlap(stored, delivered)
    assert found["symbol"].to_list() == expected.index.to_list()
    for name in expected.columns:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    for row in found.iter_rows(named=True):
        assert abs(row["delivered_close"] / row["stored_close"] - 1) == row["close_gap"]
        key = (pl.col("symbol") == row["symbol"]) & (pl.col("session") == row["session"])
        assert stored.filter(key)["close"].item() == row["stored_close"]
        assert delivered.filter(key)["close"].item() == row["delivered_close"]
