"""Features brought up to date piece by piece, against pandas from the first bar on."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.market.bars import PANEL_KEY, PRICE_COLUMNS
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets.services import features
from boursomatic_assets.services.features import FeatureUpdate, update_features
from boursomatic_assets.services.ingest.bars import scan_stored
from boursomatic_assets.storage.postgres.adjustments_table import (
    add_adjustment,
    read_corrections,
    remove_adjustment,
)
from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_bars, write_bars
from boursomatic_assets_tests.support.catalog import add_bars, rows, run, versions_of
from boursomatic_assets_tests.support.oracles import slow_features
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import flat_bars, random_walk_bars, weekdays

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

SYMBOLS, SESSIONS = ("W000", "W001", "W002", "W003"), 60
SPLIT = weekdays(SESSIONS)[40]
NEXT = weekdays(SESSIONS + 1)[-1]


@pytest.fixture
def bars() -> pl.DataFrame:
    return random_walk_bars(len(SYMBOLS), SESSIONS, seed=11)


@pytest.fixture
def stocked(database: Database, bars: pl.DataFrame) -> Database:
    """A database with bars of four symbols, and no features yet."""
    write_instruments(database, listed(*SYMBOLS))
    write_bars(database, accepted(bars), "sample")
    return database


@pytest.fixture
def current(stocked: Database) -> Database:
    """The same, its features up to date."""
    update(stocked)
    return stocked


def update(database: Database, code: str = "1") -> FeatureUpdate:
    return update_features(database, code, lambda _: None)


def of(symbol: str) -> pl.Expr:
    return pl.col("symbol") == symbol


def bars_that_count(database: Database) -> pd.DataFrame:
    """The stored bars by pandas, without quarantined symbols, each times the ratios entered for later sessions."""
    bars = read_bars(database).to_pandas()
    entries = rows(database, "SELECT symbol, session, ratio FROM adjustments")
    jumps = rows(database, "SELECT symbol, session FROM unexplained_jumps")
    waiting = {symbol for symbol, session in jumps if (symbol, session) not in {entry[:2] for entry in entries}}
    for symbol, session, ratio in entries:
        before = (bars["symbol"] == symbol) & (bars["session"] < pd.Timestamp(str(session)))
        bars.loc[before, list(PRICE_COLUMNS)] *= float(str(ratio))
        bars.loc[before, "volume"] /= float(str(ratio))
    return bars[~bars["symbol"].isin(waiting)].reset_index(drop=True)


def assert_as_computed_anew(database: Database) -> None:
    """Every feature of every symbol that counts is what pandas makes of all of its bars."""
    expected = slow_features(pl.from_pandas(bars_that_count(database)))
    stored = read_features(database).filter(pl.col("symbol").is_in(expected["symbol"].unique().tolist()))
    assert stored["symbol"].to_list() == expected["symbol"].tolist()
    assert [str(session) for session in stored["session"]] == expected["session"].dt.date.astype(str).tolist()
    for name in FEATURE_NAMES:
        found = stored[name].to_numpy().astype(float)
        # A score near zero is a difference of nearly equal numbers: its last digits are noise.
        np.testing.assert_allclose(found, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def all_versions(database: Database) -> tuple[object, ...]:
    """Every version of every row of features, and of what is remembered of them."""
    remembered = rows(database, "SELECT symbol, xmin::text, ctid::text FROM feature_state ORDER BY symbol")
    return versions_of(database, "features"), remembered


def test_update_features_computes_every_symbol_first(stocked: Database) -> None:
    notes: list[str] = []
    found = update_features(stocked, "1", notes.append)
    assert found == FeatureUpdate(4, 0, UpsertCounts(4 * 60, 0, 0), [])
    assert notes == ["240 of 240 rows"]
    assert_as_computed_anew(stocked)


def test_update_features_twice_writes_nothing(current: Database) -> None:
    before = all_versions(current)
    for _ in range(2):
        assert update(current) == FeatureUpdate(0, 4, UpsertCounts(0, 0, 0), [])
    assert all_versions(current) == before


def test_update_features_adds_one_row_for_a_new_session(current: Database, bars: pl.DataFrame) -> None:
    before = versions_of(current, "features")
    last = bars.filter(of("W002")).tail(1)
    write_bars(current, accepted(last.with_columns(session=pl.lit(NEXT), close=pl.col("high"))), "sample")
    assert update(current) == FeatureUpdate(1, 3, UpsertCounts(1, 0, 60), [])
    after = versions_of(current, "features")
    assert {key: after[key] for key in before} == before
    assert_as_computed_anew(current)


def test_update_features_recomputes_a_rewritten_history(current: Database, bars: pl.DataFrame) -> None:
    # a dividend: every price before the split session is 2 % lower than it was stored
    lower = [pl.when(pl.col("session") < SPLIT).then(pl.col(name) * 0.98).otherwise(name) for name in PRICE_COLUMNS]
    write_bars(current, accepted(bars.filter(of("W001")).with_columns(lower)), "sample")
    found = update(current)
    assert (found.recomputed, found.unchanged) == (1, 3)
    # the returns into the new level change, and nothing before: a return does not know the level
    assert found.counts.inserted == 0
    assert 0 < found.counts.updated < 60
    assert_as_computed_anew(current)


def test_update_features_carries_the_first_bar_to_the_newest_feature(current: Database, bars: pl.DataFrame) -> None:
    # an exponential mean forgets slowly: the range of the first bar still shows, two months later
    first = bars.filter(of("W003")).head(1)
    write_bars(current, accepted(first.with_columns(high=pl.col("high") * 3)), "sample")
    newest = read_features(current, ["atr_14"]).filter(of("W003"))["atr_14"][-1]
    update(current)
    assert abs(read_features(current, ["atr_14"]).filter(of("W003"))["atr_14"][-1] / newest - 1) > 1e-6
    assert_as_computed_anew(current)


def test_update_features_follows_an_adjustment_and_its_removal(current: Database) -> None:
    before = read_features(current)
    add_adjustment(current, "W000", SPLIT, 0.5, "two for one")
    assert update(current).recomputed == 1
    assert_as_computed_anew(current)
    halved = read_features(current).filter(of("W000"))
    at_split = pl.col("session") == SPLIT
    # (1 + return) / 0.5 - 1: the close before is half of what was stored
    expected = (1 + before.filter(of("W000") & at_split)["ret_1d"].item()) / 0.5 - 1
    assert halved.filter(at_split)["ret_1d"].item() == pytest.approx(expected, rel=1e-9)
    assert update(current).recomputed == 0

    remove_adjustment(current, "W000", SPLIT)
    assert update(current).recomputed == 1
    assert_as_computed_anew(current)
    after = read_features(current)
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-12)


def test_update_features_notices_another_ratio(current: Database) -> None:
    add_adjustment(current, "W000", SPLIT, 0.5, None)
    update(current)
    add_adjustment(current, "W000", SPLIT, 0.25, None)
    assert update(current).recomputed == 1
    assert_as_computed_anew(current)


def with_a_split(database: Database, bars: pl.DataFrame, symbol: str) -> None:
    """Store half the prices of a symbol from a session on, as a source does that leaves splits in, and look."""
    halves = [pl.when(pl.col("session") >= SPLIT).then(pl.col(name) / 2).otherwise(name) for name in PRICE_COLUMNS]
    own = bars.filter(of(symbol)).with_columns(halves)
    # so that nothing but the split moves the price there
    before = own.filter(pl.col("session") < SPLIT)["close"][-1]
    at_split = [
        pl.when(pl.col("session") == SPLIT).then(before / 2).otherwise(name).alias(name) for name in PRICE_COLUMNS
    ]
    write_bars(database, accepted(own.with_columns(at_split)), "sample")
    scan_stored(database, lambda _: None)


def test_update_features_leaves_out_quarantined_symbols(current: Database, bars: pl.DataFrame) -> None:
    before = versions_of(current, "features")
    with_a_split(current, bars, "W001")
    assert update(current) == FeatureUpdate(0, 3, UpsertCounts(0, 0, 0), ["W001"])
    assert versions_of(current, "features") == before

    add_adjustment(current, "W001", SPLIT, 0.5, None)
    found = update(current)
    assert (found.recomputed, found.unchanged, found.quarantined) == (1, 3, [])
    assert_as_computed_anew(current)
    at_split = of("W001") & (pl.col("session") == SPLIT)
    assert read_features(current).filter(at_split)["ret_1d"].item() == pytest.approx(0.0, abs=1e-12)


def test_update_features_computes_a_real_jump_unadjusted(current: Database, bars: pl.DataFrame) -> None:
    with_a_split(current, bars, "W001")
    add_adjustment(current, "W001", SPLIT, 1.0, "the company's factory burnt down")
    assert update(current).recomputed == 1
    assert_as_computed_anew(current)
    at_split = of("W001") & (pl.col("session") == SPLIT)
    assert read_features(current).filter(at_split)["ret_1d"].item() == pytest.approx(-0.5, rel=1e-12)


def test_update_features_quarantines_again_after_a_removed_adjustment(
    current: Database, bars: pl.DataFrame
) -> None:
    with_a_split(current, bars, "W001")
    add_adjustment(current, "W001", SPLIT, 0.5, None)
    update(current)
    remove_adjustment(current, "W001", SPLIT)
    found = update(current)
    assert (found.recomputed, found.quarantined) == (0, ["W001"])
    with current.bulk() as cursor:
        assert read_corrections(cursor).jumps["session"].to_list() == [SPLIT]


@pytest.mark.parametrize(
    ("tampering", "counts"),
    [
        ("UPDATE features SET rsi_14 = 1 WHERE id = (SELECT min(id::text)::uuid FROM own)", (0, 1, 59)),
        ("UPDATE features SET volume_zscore = NULL WHERE id IN (SELECT id FROM own)", (0, 41, 19)),
        (
            "UPDATE features SET ts = ts + interval '900 days' WHERE id = (SELECT min(id::text)::uuid FROM own)",
            (1, 0, 59),
        ),
        ("DELETE FROM features WHERE id = (SELECT max(id::text)::uuid FROM own)", (1, 0, 59)),
        ("DELETE FROM features WHERE id IN (SELECT id FROM own)", (60, 0, 0)),
    ],
    ids=["one value", "a column", "a session", "a row", "a symbol"],
)
def test_update_features_repairs_changed_or_removed_rows(
    current: Database, tampering: str, counts: tuple[int, int, int]
) -> None:
    # the volume score needs 20 sessions: 60 - 19 = 41 rows have one
    whose = "instrument_id = (SELECT id FROM instruments WHERE symbol = 'W002')"
    own = f"WITH own AS (SELECT id FROM features WHERE {whose}) "  # noqa: S608
    untouched = versions_of(current, "features")
    run(current, own + tampering)
    # a row that was moved to a date without a bar goes
    moved = int("interval" in tampering)
    assert update(current) == FeatureUpdate(1, 3, UpsertCounts(*counts), [], removed=moved)
    assert_as_computed_anew(current)
    after = versions_of(current, "features")
    assert sum(after.get(key) == version for key, version in untouched.items()) >= 3 * 60


def test_update_features_ignores_changes_within_tolerance(current: Database) -> None:
    run(current, "UPDATE features SET rsi_14 = rsi_14 * (1 + 1e-13)")
    before = versions_of(current, "features")
    assert update(current) == FeatureUpdate(4, 0, UpsertCounts(0, 0, 240), [])
    assert update(current).recomputed == 0
    assert versions_of(current, "features") == before


def test_update_features_recomputes_for_another_code_version(current: Database) -> None:
    before = versions_of(current, "features")
    assert update(current, code="2") == FeatureUpdate(4, 0, UpsertCounts(0, 0, 240), [])
    assert versions_of(current, "features") == before
    assert update(current, code="2").recomputed == 0
    assert update(current, code="1").recomputed == 4


def test_update_features_notices_another_exchange(current: Database) -> None:
    run(current, "UPDATE instruments SET exchange = 'XPAR' WHERE symbol = 'W003'")
    assert update(current).recomputed == 1
    assert update(current).recomputed == 0


def test_update_features_skips_filled_in_holidays(stocked: Database, bars: pl.DataFrame) -> None:
    # Saturday 2018-01-06, at the price of the Friday, when nothing was traded
    friday = bars.filter(of("W000") & (pl.col("session") == date(2018, 1, 5)))
    filled_in = friday.with_columns(session=pl.lit(date(2018, 1, 6)), volume=pl.lit(0.0))
    write_bars(stocked, accepted(filled_in), "sample")
    update(stocked)
    computed = read_features(stocked)
    assert computed.select(PANEL_KEY).equals(bars.select(PANEL_KEY))
    expected = slow_features(bars)
    np.testing.assert_allclose(computed["ret_5d"].to_numpy(), expected["ret_5d"], rtol=1e-9)


def test_update_features_ignores_intraday_bars(current: Database) -> None:
    add_bars(current, "2018-01-02 09:15")
    assert update(current).recomputed == 0


def test_update_features_computes_a_new_short_symbol(current: Database) -> None:
    write_instruments(current, listed("NEW"))
    write_bars(current, accepted(flat_bars({"NEW": [10.0, 11.0]})), "sample")
    assert update(current) == FeatureUpdate(1, 4, UpsertCounts(2, 0, 0), [])
    # 11 / 10 - 1
    assert read_features(current, ["ret_1d"]).filter(of("NEW"))["ret_1d"].to_list() == [
        None,
        pytest.approx(0.1, rel=1e-12),
    ]


def test_update_features_refuses_too_little_history(database: Database) -> None:
    write_instruments(database, listed("AAA"))
    with pytest.raises(NotEnoughHistoryError, match="there are no bars"):
        update(database)
    write_bars(database, accepted(flat_bars({"AAA": [10.0] * 20})), "sample")
    with pytest.raises(NotEnoughHistoryError, match="'AAA', has 20"):
        update(database)
    assert read_features(database).is_empty()
    assert rows(database, "SELECT count(*) FROM feature_state") == [(0,)]


def test_update_features_refuses_only_quarantined_history(database: Database) -> None:
    bars = random_walk_bars(1, SESSIONS, seed=5)
    write_instruments(database, listed("W000"))
    with_a_split(database, bars, "W000")
    with pytest.raises(NotEnoughHistoryError, match="there are no bars"):
        update(database)


def test_update_features_in_batches(stocked: Database, monkeypatch: pytest.MonkeyPatch, bars: pl.DataFrame) -> None:
    monkeypatch.setattr(features, "ROWS_AT_ONCE", 100)
    notes: list[str] = []
    # symbols begin at rows 0, 60, 120 and 180: two fall into the first hundred and two into the second
    found = update_features(stocked, "1", notes.append)
    assert found == FeatureUpdate(4, 0, UpsertCounts(240, 0, 0), [])
    assert notes == ["120 of 240 rows", "240 of 240 rows"]
    assert read_features(stocked).height == bars.height
    assert_as_computed_anew(stocked)


def test_update_features_finishes_an_interrupted_update(stocked: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "ROWS_AT_ONCE", 100)

    def interrupted(_note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_features(stocked, "1", interrupted)
    # the first batch is stored, but not yet recorded as current
    assert rows(stocked, "SELECT count(*) FROM features") == [(120,)]
    assert update(stocked) == FeatureUpdate(4, 0, UpsertCounts(120, 0, 120), [])
    assert_as_computed_anew(stocked)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_update_features_equals_a_full_recomputation_after_any_changes(
    current: Database, bars: pl.DataFrame, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    days = weekdays(SESSIONS + 20)
    for turn in range(8):
        symbol = str(rng.choice(SYMBOLS))
        day = days[int(rng.integers(1, SESSIONS))]
        own = bars.filter(of(symbol))
        match rng.integers(0, 6):
            case 0:
                added = own.tail(1).with_columns(
                    session=pl.lit(days[SESSIONS + turn]), volume=pl.lit(float(turn + 1))
                )
                write_bars(current, accepted(added), "sample")
            case 1:
                lower = [pl.col(name) * rng.uniform(0.9, 1.1) for name in PRICE_COLUMNS[:1]]
                scaled = own.filter(pl.col("session") < day).with_columns(
                    *lower, high=pl.col("high") * 1.2, low=pl.col("low") * 0.8
                )
                write_bars(current, accepted(scaled), "sample")
            case 2:
                add_adjustment(current, symbol, day, float(rng.choice([0.5, 2.0, 1.0, 1 / 3])), None)
            case 3:
                run(current, "DELETE FROM adjustments WHERE ctid IN (SELECT ctid FROM adjustments LIMIT 1)")
            case 4:
                run(current, f"UPDATE features SET vol_20d = 7 WHERE ts = '{day}'")  # noqa: S608
            case _:
                run(current, f"DELETE FROM features WHERE ts >= '{day + timedelta(days=7)}'")  # noqa: S608
        update(current)
        assert_as_computed_anew(current)
        assert update(current).recomputed == 0


def test_update_features_removes_rows_without_a_usable_bar(current: Database) -> None:
    before = read_features(current)
    holiday = before["session"][30]
    moved = holiday.replace(year=2021, month=12, day=25)
    # The bar moves to Christmas Day without a trade, so it is not usable.
    run(
        current,
        f"UPDATE price_bars b SET ts = '{moved}', v = 0 FROM instruments i "  # noqa: S608
        f"WHERE i.id = b.instrument_id AND i.symbol = 'W000' AND b.ts = '{holiday}'",
    )
    done = update(current)
    assert (done.recomputed, done.removed) == (1, 1)
    left = read_features(current)
    assert left.select("symbol", "session").equals(
        before.filter(~(of("W000") & (pl.col("session") == holiday))).select("symbol", "session")
    )
