"""A benchmark that is not there, or hardly, and prices that cannot be: each stops where it must, and is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import checks_of
from boursomatic_assets_tests.support.small_market import DAILY, LABELS, bars_on, ingest, scaled, sessions_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

SESSIONS = sessions_of("XNYS", 120)
STOCKS = [bars_on(SESSIONS, symbol) for symbol in ("AAA", "BBB", "CCC")]
METRICS = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("metrics"), "prices_behind_the_figures_can_be"))


def message_of(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return str(failed.event_specific_data.error)  # type: ignore[union-attr]


def labels_with(installation: Installation, benchmark: str) -> dg.ExecuteInProcessResult:
    return installation.execute(LABELS, experiment={"horizon": 5, "benchmark": benchmark})


def test_an_unknown_benchmark_stops_before_a_run_exists(new: Callable[[], Installation], tmp_path: Path) -> None:
    installation = new()
    pl.concat(STOCKS).write_parquet(tmp_path / "prices.parquet")
    given = ("--provider", "files", "--path", str(tmp_path / "prices.parquet"), "--benchmark", "AAB")
    ended = installation.run("materialize", *given)
    assert ended.code == 1
    assert "the benchmark 'AAB' has no bars, among 3 symbols that have (near it: AAA): " in ended.errors
    assert "add its bars to the files, or leave out the benchmark" in ended.errors
    assert installation.ask("SELECT count(*) FROM instruments") == [(0,)]


def test_a_benchmark_that_the_same_command_brings_is_known(new: Callable[[], Installation], tmp_path: Path) -> None:
    installation = new()
    pl.concat([*STOCKS, bars_on(SESSIONS, "SPY")]).write_parquet(tmp_path / "prices.parquet")
    given = ("--provider", "files", "--path", str(tmp_path / "prices.parquet"), "--benchmark", "SPY")
    ended = installation.run("materialize", "--to", "labels", *given)
    assert ended.code == 0, ended.errors


def test_the_first_asset_that_reads_it_stops_with_the_same_sentence(
    new: Callable[[], Installation], tmp_path: Path
) -> None:
    installation = new()
    ingest(installation, pl.concat(STOCKS), tmp_path / "prices.parquet", DAILY)
    result = labels_with(installation, "AAB")
    assert not result.success
    assert "the benchmark 'AAB' has no bars, among 3 symbols that have (near it: AAA): " in message_of(result)


def test_a_benchmark_of_one_row_or_in_quarantine_is_said_to_be_so(
    new: Callable[[], Installation], tmp_path: Path
) -> None:
    installation = new()
    split = scaled(bars_on(SESSIONS, "QQQ"), "QQQ", 2.0, before=SESSIONS[60])
    one = bars_on(SESSIONS[-1:], "SPY")
    ingest(installation, pl.concat([*STOCKS, split, one]), tmp_path / "prices.parquet", DAILY)
    said = message_of(labels_with(installation, "SPY"))
    assert (
        f"the benchmark 'SPY' needs 2 usable bars; it has 1, of 1 stored ({SESSIONS[-1]} to {SESSIONS[-1]})" in said
    )
    said = message_of(labels_with(installation, "QQQ"))
    assert "the benchmark 'QQQ' needs 2 usable bars; it has 0, of 120 stored" in said
    assert "it is quarantined for a jump near a split ratio: explain it (boursomatic adjustments list)" in said


def test_a_price_86_times_too_high_stops_what_would_be_recorded_until_it_is_put_right(
    new: Callable[[], Installation], tmp_path: Path
) -> None:
    assert "prices_behind_the_figures_can_be" in {key.name for key in REQUIRED_CHECKS}
    installation = new()
    ingest(installation, pl.concat(STOCKS), tmp_path / "prices.parquet", DAILY | LABELS)
    # By another program, past the ingest, which sets such a price aside.
    change = (
        "UPDATE price_bars SET o = o {0} 86, h = h {0} 86, l = l {0} 86, c = c {0} 86 FROM instruments i "
        "WHERE i.id = instrument_id AND i.symbol = 'AAA' AND ts = '{1}'"
    )
    run(installation.database(), change.format("*", SESSIONS[60]))
    check = checks_of(installation.execute(METRICS, experiment={"horizon": 5}))["prices_behind_the_figures_can_be"]
    assert not check.passed
    assert check.description is not None
    assert check.description.startswith(f"Prices that cannot be: AAA {SESSIONS[60]} ")
    assert f"(back on {SESSIONS[61]})" in check.description
    run(installation.database(), change.format("/", SESSIONS[60]))
    mended = checks_of(installation.execute(METRICS, experiment={"horizon": 5}))["prices_behind_the_figures_can_be"]
    assert mended.passed
