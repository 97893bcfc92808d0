"""Splits and dividends from the source to the features: a source that adjusts its prices, and one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets_tests.support.installation import checks_of, metadata_of
from boursomatic_assets_tests.support.oracles import slow_features
from boursomatic_assets_tests.support.small_market import (
    CHECKED,
    DAILY,
    FEATURES,
    LABELS,
    PRICES,
    bars_in,
    bars_on,
    features_in,
    ingest,
    labels_in,
    require_equal,
    scaled,
    sessions_of,
    versions_of_symbol,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

SESSIONS = sessions_of("XNYS", 61)
YESTERDAY, TOMORROW = SESSIONS[-2], SESSIONS[-1]
# The first session at half the price.
SPLIT = SESSIONS[40]
MARKET = pl.concat([bars_on(SESSIONS, symbol) for symbol in ("AAA", "BBB", "CCC", "DDD")])
HALVED = scaled(MARKET, "AAA", 2.0, before=SPLIT)
WITH_LABELS = DAILY | LABELS


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    return tmp_path / "prices.parquet"


def of(panel: pl.DataFrame, *symbols: str) -> pl.DataFrame:
    return panel.filter(pl.col("symbol").is_in(symbols))


def plain(table: str) -> str:
    """A Markdown table with plain hyphens in its dates."""
    return table.replace("\N{NON-BREAKING HYPHEN}", "-")


def as_of_tomorrow() -> pl.DataFrame:
    """What a source with adjusted closes says after the close at which AAA splits and BBB pays a dividend.

    AAA's raw price halves overnight, its adjusted closes before are half the raw ones. BBB's are 1 % lower. CCC has
    another session and nothing else. Of DDD one bar was corrected.
    """
    before, symbol = pl.col("session") < TOMORROW, pl.col("symbol")
    corrected = (symbol == "DDD") & (pl.col("session") == SESSIONS[50])
    factor = (
        pl.when(before & (symbol == "AAA")).then(0.5).when(before & (symbol == "BBB")).then(0.99).otherwise(1.0)
    )
    raw = scaled(MARKET, "AAA", 2.0, before=TOMORROW)
    told = raw.with_columns(close=pl.when(corrected).then(pl.col("close") * 0.999).otherwise(pl.col("close")))
    return told.with_columns(adj_close=pl.col("close") * factor)


def test_a_split_that_appears_tomorrow_rewrites_yesterday_s_bars_and_says_so(
    new: Callable[[], Installation], prices: Path
) -> None:
    here = new()
    final = as_of_tomorrow()
    raw = scaled(MARKET, "AAA", 2.0, before=TOMORROW)
    yesterday = raw.filter(pl.col("session") <= YESTERDAY).with_columns(adj_close=pl.col("close"))
    first = metadata_of(ingest(here, yesterday, prices), "price_bars")
    assert (first["rows_inserted"], first["rewritten_rows"]) == (4 * 60, 0)
    untouched = bars_in(here)

    result = ingest(here, final, prices)
    metadata = metadata_of(result, "price_bars")
    # The 60 stored bars of AAA and of BBB, and one of DDD; one new bar of each.
    assert metadata["rewritten_rows"] == metadata["rows_updated"] == 60 + 60 + 1
    assert metadata["rewritten_since"] == str(SESSIONS[0])
    assert plain(metadata["rewritten_symbols"]).splitlines()[2:] == [
        f"| AAA | 60 | {SESSIONS[0]} |",
        f"| BBB | 60 | {SESSIONS[0]} |",
        f"| DDD | 1 | {SESSIONS[50]} |",
    ]
    assert metadata["rows_inserted"] == 4
    assert metadata["rows_unchanged"] == 60 + 59
    assert metadata["quarantined"] == []
    assert metadata_of(result, "features")["symbols_recomputed"] == 4

    # Half the price of yesterday, as a person who trades at tomorrow's would see it.
    now, then = of(bars_in(here), "AAA").head(60), of(untouched, "AAA")
    for name in PRICES:
        assert now[name].to_list() == pytest.approx((then[name] / 2).to_list(), rel=1e-12)
    move = bars_in(here).filter(pl.col("symbol") == "AAA")["close"].pct_change().abs().max()
    assert move < 0.05

    there = new()
    ingest(there, final, prices)
    assert_frame_equal(bars_in(here), bars_in(there))
    require_equal(features_in(here), features_in(there))


def test_only_symbols_whose_bars_have_changed_are_computed_again(
    new: Callable[[], Installation], prices: Path
) -> None:
    here = new()
    final = as_of_tomorrow()
    ingest(here, final, prices)
    before = here.tables()
    shorter = final.filter((pl.col("symbol") != "CCC") | (pl.col("session") != SESSIONS[30]))
    changed = shorter.with_columns(
        volume=pl.when(pl.col("symbol") == "BBB").then(pl.col("volume") + 1).otherwise(pl.col("volume"))
    )
    metadata = metadata_of(ingest(here, changed, prices), "features")
    assert (metadata["symbols_recomputed"], metadata["symbols_unchanged"]) == (1, 3)
    # A bar that is no longer told stays, and so does whatever follows from it.
    assert here.ask("SELECT count(*) FROM price_bars") == [(4 * 61,)]
    mine = set(versions_of_symbol(here, "features", "BBB"))
    others = {key: row for key, row in before["features"].items() if key not in mine}
    assert len(others) == 3 * 61
    assert here.tables()["features"].items() >= others.items()


def split_without_a_word(here: Installation, prices: Path) -> dg.ExecuteInProcessResult:
    """A source without adjusted closes: first until the session before the split, then over it."""
    ingest(here, HALVED.filter(pl.col("session") < SPLIT), prices, WITH_LABELS)
    return ingest(here, HALVED, prices, WITH_LABELS)


def test_a_split_that_nobody_took_out_quarantines_its_symbol(new: Callable[[], Installation], prices: Path) -> None:
    here = new()
    ingest(here, HALVED.filter(pl.col("session") < SPLIT), prices, WITH_LABELS)
    before, features = versions_of_symbol(here, "features", "AAA"), features_in(here)
    assert set(labels_in(here)["symbol"]) == {"AAA", "BBB", "CCC", "DDD"}

    result = ingest(here, HALVED, prices, CHECKED | LABELS)
    assert metadata_of(result, "price_bars")["quarantined"] == ["AAA"]
    assert metadata_of(result, "features")["quarantined"] == ["AAA"]
    check = checks_of(result)["jumps_are_explained"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"| AAA | {SPLIT} |" in plain(check.metadata["quarantined"].value)
    # Its bars are stored as they came, its features are those of before, and no label reaches over the split.
    assert_frame_equal(bars_in(here).drop("interval"), HALVED, check_row_order=False)
    assert versions_of_symbol(here, "features", "AAA") == before
    assert_frame_equal(of(features_in(here), "AAA"), of(features, "AAA"))
    assert of(features_in(here), "BBB").height == 61
    assert set(labels_in(here)["symbol"]) == {"BBB", "CCC", "DDD"}


def test_an_adjustment_makes_features_as_of_a_file_that_was_adjusted_and_can_be_taken_back(
    new: Callable[[], Installation], prices: Path
) -> None:
    here = new()
    split_without_a_word(here, prices)
    bars = here.tables()["price_bars"]
    listed = here.run("adjustments", "list")
    assert listed.code == 0
    assert f"AAA {SPLIT} quarantined: a jump near 0.5" in listed.said
    assert "boursomatic adjustments add SYMBOL SESSION RATIO" in listed.said

    added = here.run("adjustments", "add", "AAA", str(SPLIT), "0.5", "--note", "two for one")
    assert added.code == 0, added.errors
    assert "boursomatic materialize --select features+" in added.said
    result = ingest(here, HALVED, prices, CHECKED | LABELS)
    assert metadata_of(result, "price_bars")["adjustments_applied"] == 1
    assert metadata_of(result, "price_bars")["quarantined"] == []
    assert metadata_of(result, "features")["symbols_recomputed"] == 1
    assert checks_of(result)["jumps_are_explained"].passed
    assert "quarantined" not in here.run("adjustments", "list").said
    assert here.tables()["price_bars"] == bars

    # Prices before the split halved, volumes doubled: the market without the split.
    there = new()
    ingest(there, scaled(HALVED, "AAA", 0.5, before=SPLIT), tmp_beside(prices), WITH_LABELS)
    require_equal(features_in(here), features_in(there))
    require_equal(labels_in(here), labels_in(there))

    removed = here.run("adjustments", "remove", "AAA", str(SPLIT))
    assert removed.code == 0, removed.errors
    assert f"AAA {SPLIT} quarantined: a jump near 0.5" in here.run("adjustments", "list").said
    again = ingest(here, HALVED, prices, WITH_LABELS)
    assert metadata_of(again, "price_bars")["quarantined"] == ["AAA"]
    assert set(labels_in(here)["symbol"]) == {"BBB", "CCC", "DDD"}


def tmp_beside(path: Path) -> Path:
    return path.with_name("adjusted.parquet")


def test_a_move_that_was_real_is_explained_by_a_ratio_of_one(new: Callable[[], Installation], prices: Path) -> None:
    here = new()
    assert metadata_of(split_without_a_word(here, prices), "price_bars")["quarantined"] == ["AAA"]
    assert here.run("adjustments", "add", "AAA", str(SPLIT), "1").code == 0
    result = ingest(here, HALVED, prices, WITH_LABELS)
    assert metadata_of(result, "price_bars")["quarantined"] == []

    found, expected = of(features_in(here), "AAA"), slow_features(of(HALVED, "AAA"))
    for name in FEATURES:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    # The price halved, whatever it moved by beside.
    assert found.filter(pl.col("session") == SPLIT)["ret_1d"].item() == pytest.approx(-0.5, abs=0.02)
    assert "AAA" in set(labels_in(here)["symbol"])


def test_a_fall_within_a_session_is_no_split(new: Callable[[], Installation], prices: Path) -> None:
    # It opened where it had closed, and then lost half.
    crash = (pl.col("symbol") == "AAA") & (pl.col("session") == SPLIT)
    opening = pl.col("close").shift(1)
    fallen = HALVED.with_columns(
        open=pl.when(crash).then(opening).otherwise("open"),
        high=pl.when(crash).then(opening * 1.001).otherwise("high"),
    )
    result = ingest(new(), fallen, prices, CHECKED)
    assert metadata_of(result, "price_bars")["quarantined"] == []
    check = checks_of(result)["jumps_are_explained"]
    assert check.passed
    assert f"| AAA | {SPLIT} |" in plain(check.metadata["large_moves"].value)
