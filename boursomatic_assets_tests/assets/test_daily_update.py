"""A source that grows by a session a day, and rows that real ones bring along: Sundays, other markets, tomorrow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets_tests.support.catalog import run, versions_of
from boursomatic_assets_tests.support.installation import checks_of, metadata_of
from boursomatic_assets_tests.support.oracles import slow_features
from boursomatic_assets_tests.support.small_market import (
    CHECKED,
    DAILY,
    FEATURES,
    LABELS,
    bars_in,
    bars_on,
    features_in,
    ingest,
    labels_in,
    require_equal,
    scaled,
    sessions_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

DAYS = 5
NEW_YORK, PARIS = sessions_of("XNYS", 45), sessions_of("XPAR", 45)
HERE = pl.concat([bars_on(NEW_YORK, "AAA"), bars_on(NEW_YORK, "BRK.B"), bars_on(PARIS, "MC.PA")])


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    return tmp_path / "prices.parquet"


def test_day_by_day_gives_what_all_at_once_gives(new: Callable[[], Installation], prices: Path) -> None:
    daily, at_once = new(), new()
    days = sorted({*NEW_YORK, *PARIS})[-DAYS:]
    ingest(daily, HERE.filter(pl.col("session") < days[0]), prices)
    for day in days:
        result = ingest(daily, HERE.filter(pl.col("session") <= day), prices)
        bars, features = metadata_of(result, "price_bars"), metadata_of(result, "features")
        fresh = HERE.filter(pl.col("session") == day).height
        assert fresh in {2, 3}
        assert (bars["rows_inserted"], bars["rows_updated"], bars["rewritten_rows"]) == (fresh, 0, 0)
        # Yesterday's features are computed again with today's, and found to be what they were.
        assert (features["rows_inserted"], features["rows_updated"]) == (fresh, 0)
        assert features["symbols_recomputed"] == fresh
    ingest(at_once, HERE, prices)
    assert_frame_equal(bars_in(daily), bars_in(at_once))
    require_equal(features_in(daily), features_in(at_once))
    described = "SELECT symbol, exchange, name, sector, currency, is_active FROM instruments ORDER BY symbol"
    assert daily.ask(described) == at_once.ask(described)
    assert [row[:2] for row in daily.ask(described)] == [("AAA", "US"), ("BRK.B", "US"), ("MC.PA", "XPAR")]

    before = daily.tables()
    ingest(daily, HERE, prices)
    assert daily.tables() == before


def test_a_symbol_of_an_unknown_exchange_needs_no_calendar(new: Callable[[], Installation], prices: Path) -> None:
    here = new()
    # Bars on every day of the week: who knows where it trades.
    days = [NEW_YORK[0] + timedelta(days=number) for number in range(40)]
    result = ingest(here, pl.concat([HERE, bars_on(days, "VOD.L")]), prices, CHECKED | LABELS)
    assert here.ask("SELECT exchange FROM instruments WHERE symbol = 'VOD.L'") == [("unknown",)]
    checks = checks_of(result)
    symbols = {
        name: made.metadata["symbols"].value for name, made in checks.items() if name.startswith("sessions_of")
    }
    assert symbols == {"sessions_of_xnys": 2, "sessions_of_xpar": 1, "sessions_of_xams": 0, "sessions_of_xbru": 0}
    assert features_in(here).filter(pl.col("symbol") == "VOD.L")["session"].to_list() == days
    # Its horizon of 5 counts its own bars.
    labelled = labels_in(here).filter(pl.col("symbol") == "VOD.L")
    assert labelled["label_end"].to_list() == [*days[5:], *[None] * 5]


def test_a_row_on_a_sunday_without_a_trade_is_stored_reported_and_left_out_of_features(
    new: Callable[[], Installation], prices: Path
) -> None:
    here, there = new(), new()
    friday = next(session for session in NEW_YORK[25:] if session.weekday() == 4)
    sunday = friday + timedelta(days=2)
    idle = HERE.filter((pl.col("symbol") == "AAA") & (pl.col("session") == friday)).with_columns(
        session=pl.lit(sunday), volume=pl.lit(0.0)
    )
    # The same on the same Sunday with a volume is a bar: somebody traded.
    traded = idle.with_columns(symbol=pl.lit("BRK.B"), volume=pl.lit(100.0))
    result = ingest(here, pl.concat([HERE, idle, traded]), prices, CHECKED)
    assert metadata_of(result, "price_bars")["rejected_rows"] == 0
    assert here.ask(f"SELECT count(*) FROM price_bars WHERE ts = '{sunday}'") == [(2,)]  # noqa: S608
    check = checks_of(result)["sessions_of_xnys"]
    assert not check.passed
    assert (check.metadata["extra"].value, check.metadata["missing"].value) == (2, 0)
    listed = check.metadata["extra_rows"].value.replace("\N{NON-BREAKING HYPHEN}", "-")
    assert f"| XNYS | AAA | {sunday} | 0 |" in listed
    assert f"| XNYS | BRK.B | {sunday} | 100 |" in listed

    ingest(there, HERE, prices)
    of = pl.col("symbol") == "AAA"
    require_equal(features_in(here).filter(of), features_in(there).filter(of))
    assert sunday in features_in(here).filter(pl.col("symbol") == "BRK.B")["session"].to_list()


def test_a_bar_of_the_future_is_set_aside(new: Callable[[], Installation], prices: Path) -> None:
    here = new()
    tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    ahead = HERE.filter(pl.col("symbol") == "AAA").tail(1).with_columns(session=pl.lit(tomorrow))
    # 1 of 3 * 45 + 1 = 136 rows is 0.7 %
    result = ingest(here, pl.concat([HERE, ahead]), prices)
    metadata = metadata_of(result, "price_bars")
    assert metadata["rejected_reasons"] == {"session in the future": 1}
    assert metadata["rejected_share"] == pytest.approx(1 / 136)
    assert here.ask("SELECT symbol, session, reason FROM rejected_bars") == [
        ("AAA", tomorrow, "session in the future")
    ]
    assert_frame_equal(bars_in(here).drop("interval"), HERE, check_row_order=False)


def fill_by_hand(installation: Installation, bars: pl.DataFrame) -> None:
    """Instruments and bars as another program would insert them."""
    symbols = bars["symbol"].unique().sort().to_list()
    instruments = ", ".join(f"(gen_random_uuid(), '{symbol}', 'NYSE', true, now(), now())" for symbol in symbols)
    values = ", ".join(
        f"('{symbol}', '{session}'::timestamp, {o!r}, {h!r}, {low!r}, {c!r}, {v!r})"
        for symbol, session, o, h, low, c, v in bars.iter_rows()
    )
    run(
        installation.database(),
        "INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at) "  # noqa: S608
        f"VALUES {instruments}; "
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at) "
        "SELECT gen_random_uuid(), i.id, b.ts, b.o, b.h, b.l, b.c, b.v, 'daily', now() "
        f"FROM (VALUES {values}) b (symbol, ts, o, h, l, c, v) JOIN instruments i ON i.symbol = b.symbol",
    )


def test_a_table_that_another_program_fills_is_read_and_never_written(new: Callable[[], Installation]) -> None:
    here = new()
    split = NEW_YORK[35]
    plain, split_one = bars_on(NEW_YORK, "AAA"), scaled(bars_on(NEW_YORK, "BBB"), "BBB", 2.0, before=split)
    fill_by_hand(here, pl.concat([plain, split_one]))
    tables = ("instruments", "price_bars")
    before = {table: versions_of(here.database(), table) for table in tables}
    assert len(before["price_bars"]) == 2 * 45

    result = here.execute(CHECKED, platform={"provider": "database"})
    assert result.success
    assert {table: versions_of(here.database(), table) for table in tables} == before
    metadata = metadata_of(result, "price_bars")
    assert (metadata["rows_inserted"], metadata["rows_updated"], metadata["rows_unchanged"]) == (0, 0, 90)
    assert metadata["quarantined"] == ["BBB"]
    # NYSE is known by that name too; years behind, and said to be.
    check = checks_of(result)["sessions_of_xnys"]
    assert (check.passed, check.metadata["symbols"].value) == (False, 2)
    assert check.metadata["missing"].value == check.metadata["extra"].value == 0
    assert check.metadata["newest_session"].value == str(NEW_YORK[-1])
    assert check.metadata["newest_complete_session"].value > str(NEW_YORK[-1])

    require_features_of(here, plain)
    assert here.run("adjustments", "add", "BBB", str(split), "0.5").code == 0
    assert here.execute(DAILY, platform={"provider": "database"}).success
    require_features_of(here, pl.concat([plain, scaled(split_one, "BBB", 0.5, before=split)]))
    assert {table: versions_of(here.database(), table) for table in tables} == before


def require_features_of(installation: Installation, bars: pl.DataFrame) -> None:
    """The stored features are those that a slow computation makes of the bars, and there are no others."""
    found, expected = features_in(installation), slow_features(bars)
    assert found.select("symbol", "session").rows() == bars.select("symbol", "session").rows()
    for name in FEATURES:
        np.testing.assert_allclose(
            found[name].to_numpy(), expected[name], rtol=1e-9, atol=1e-12, equal_nan=True, err_msg=name
        )
