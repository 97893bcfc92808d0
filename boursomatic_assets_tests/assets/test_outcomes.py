"""Recommendations of an earlier day, judged by the bars that came after it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest

from boursomatic_assets.assets.outcomes import (
    calls_come_true_as_often_as_expected,
    outcomes,
    outcomes_follow_from_their_bars,
)
from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.display.ui.outcomes import NOTHING_YET
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets.storage.postgres.model_table import ModelRow, record_version
from boursomatic_assets.storage.postgres.outcomes_table import read_outcomes
from boursomatic_assets.storage.postgres.recommendations_table import write_recommendations
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.installation import checks_of, metadata_of
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.small_market import bars_on, scaled, sessions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets_tests.support.installation import Installation

HORIZON, DAY = 5, 30
NEW_YORK, PARIS = sessions_of("XNYS", 45), sessions_of("XPAR", 45)
SESSIONS = {"AAA": NEW_YORK, "BBB": NEW_YORK, "MC.PA": PARIS}
MARKET = pl.concat([bars_on(sessions, symbol) for symbol, sessions in SESSIONS.items()])
VERSION = "20240601_000000_abcdef"
LABELS = dict(zip(PROFILE_NAMES, ("HOLD", "SELL", "BUY"), strict=True))
# What each profile says of every instrument: stop and target as multiples of the close.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "BUY": (0.97, 1.03), "SELL": (1.03, 0.97), "HOLD": (None, None),
}  # fmt: skip


def close_of(bars: pl.DataFrame, symbol: str, session: date) -> float:
    return float(bars.filter((pl.col("symbol") == symbol) & (pl.col("session") == session))["close"].item())


def recommended(bars: pl.DataFrame, day: int = DAY) -> pl.DataFrame:
    """Recommendations of every instrument and profile at the close of a day, as they are handed to the table."""
    made = []
    for symbol, sessions in SESSIONS.items():
        for profile, label in LABELS.items():
            close, (stop, target) = close_of(bars, symbol, sessions[day]), LIMITS[label]
            snapshot = {"close": close, "labelling": {"buy_threshold": 0.02, "sell_threshold": -0.02}}
            said = {
                "symbol": symbol, "profile": profile, "label": label, "confidence": 0.5,
                "expected_return_pct": 1.0, "horizon_days": HORIZON, "stop_loss": stop and stop * close,
                "take_profit": target and target * close, "justification": "", "session": sessions[day],
            }  # fmt: skip
            digest = hashlib.sha256(f"{said}".encode()).hexdigest()
            made.append({**said, "features_snapshot": json.dumps({**snapshot, "digest": digest})})
    return pl.DataFrame(made)


def until(day: int, bars: pl.DataFrame = MARKET) -> pl.DataFrame:
    """What was known at the close of a day."""
    last = pl.col("symbol").replace_strict({symbol: sessions[day] for symbol, sessions in SESSIONS.items()})
    return bars.filter(pl.col("session") <= last)


def bring(database: Database, bars: pl.DataFrame) -> None:
    write_bars(database, accepted(bars), "files:/prices.parquet")


def activate(database: Database) -> None:
    trained_at = datetime(2024, 6, 1, tzinfo=UTC).replace(tzinfo=None)
    row = ModelRow(VERSION, trained_at, "hash", {}, "models", "digest")
    record_version(database, row, who="test", why="first", champion=None)


@pytest.fixture
def market(database: Database) -> Database:
    """A database in which every profile has spoken at the close of the 31st session, and knows nothing later."""
    write_instruments(database, pl.concat([listed("AAA", "BBB"), listed("MC.PA", exchange="XPAR")]))
    activate(database)
    bring(database, until(DAY))
    assert write_recommendations(database, recommended(MARKET), VERSION).added == 9
    return database


def materialize(*, ends_well: bool = True) -> dg.ExecuteInProcessResult:
    result = dg.materialize_to_memory(
        [outcomes, outcomes_follow_from_their_bars, calls_come_true_as_often_as_expected],
        resources={"platform": PlatformResource()},
        raise_on_error=False,
    )
    assert result.success == ends_well
    return result


def expected(bars: pl.DataFrame, day: int = DAY, last: int = DAY + HORIZON) -> Iterator[tuple[object, ...]]:
    """What became of each recommendation, followed from one of its instrument's bars to the next."""
    for symbol, sessions in SESSIONS.items():
        own = {bar["session"]: bar for bar in bars.filter(pl.col("symbol") == symbol).to_dicts()}
        entry = own[sessions[day]]["close"]
        gain = own[sessions[last]]["close"] / entry - 1
        deserved = "BUY" if gain >= 0.02 else "SELL" if gain <= -0.02 else "HOLD"
        for profile, label in LABELS.items():
            touched: tuple[str | None, date | None] = (None, None)
            for session in sessions[last:day:-1]:
                high, low = own[session]["high"] / entry, own[session]["low"] / entry
                # The last to be written is the earliest, and of one bar the stop.
                if (label == "BUY" and high >= 1.03) or (label == "SELL" and low <= 0.97):
                    touched = ("target", session)
                if (label == "BUY" and low <= 0.97) or (label == "SELL" and high >= 1.03):
                    touched = ("stop", session)
            yield (
                symbol, profile, sessions[last], pytest.approx(gain, rel=1e-12), deserved, deserved == label,
                *touched,
            )  # fmt: skip


def found(database: Database) -> list[tuple[object, ...]]:
    judged = read_outcomes(database).sort("symbol", maintain_order=True)
    return judged.select(
        "symbol", "profile", "exit_session", "realised_return", "realised_label", "hit", "first_touch",
        "touched_session",
    ).rows()  # fmt: skip


def written(database: Database) -> list[tuple[object, ...]]:
    """Every stored outcome, with the transaction that wrote it."""
    return rows(database, "SELECT xmin::text, o::text FROM recommendation_outcomes o ORDER BY 2")


def test_recommendations_of_an_earlier_day_are_judged_by_the_bars_that_came(market: Database) -> None:
    for day in (DAY, DAY + HORIZON - 1):
        bring(market, until(day))
        early = metadata_of(materialize(), "outcomes")
        assert (early["dagster/row_count"], early["rows_inserted"], early["still_open"]) == (0, 0, 9)
        assert early["record"] == NOTHING_YET

    bring(market, MARKET)
    result = materialize()
    by_hand = list(expected(MARKET))
    assert found(market) == by_hand
    # The market was chosen so that nothing below is tested on one kind of outcome alone.
    assert {row[6] for row in by_hand} == {"stop", "target", None}
    assert {row[5] for row in by_hand} == {True, False}
    assert set(read_outcomes(market)["ended"]) == {"horizon"}
    metadata = metadata_of(result, "outcomes")
    assert (metadata["dagster/row_count"], metadata["rows_inserted"], metadata["still_open"]) == (9, 9, 0)
    assert metadata["precision_aggressive_buy"] == pytest.approx(
        sum(bool(row[5]) for row in by_hand if row[1] == "aggressive") / 3, rel=1e-5
    )
    checks = checks_of(result)
    follows = checks["outcomes_follow_from_their_bars"]
    assert follows.passed
    assert follows.blocking
    assert {name: value.value for name, value in follows.metadata.items()} == {
        "rows": 9, "rewritten_since": 0, "without_bars": 0, "wrong_rows": 0,
    }  # fmt: skip
    # One session of calls cannot surprise anybody.
    assert checks["calls_come_true_as_often_as_expected"].passed


def test_running_twice_adds_nothing(market: Database) -> None:
    bring(market, MARKET)
    materialize()
    before = written(market)
    again = materialize()
    assert metadata_of(again, "outcomes")["rows_inserted"] == 0
    assert written(market) == before
    versions = {event.asset_key for event in again.get_asset_materialization_events()}
    assert versions == {dg.AssetKey("outcomes")}


def test_archived_recommendations_are_judged_too(market: Database) -> None:
    bring(market, until(DAY + 2))
    assert write_recommendations(market, recommended(MARKET, DAY + 2), VERSION).archived == 9
    bring(market, until(DAY + HORIZON))
    assert metadata_of(materialize(), "outcomes")["still_open"] == 9
    assert found(market) == list(expected(MARKET))
    bring(market, MARKET)
    materialize()
    later = [row for row in found(market) if row[2] != SESSIONS[str(row[0])][DAY + HORIZON]]
    assert later == list(expected(MARKET, DAY + 2, DAY + 2 + HORIZON))


def test_an_instrument_that_stopped_trading_is_closed_at_its_last_price(market: Database) -> None:
    gone = (pl.col("symbol") == "BBB") & (pl.col("session") > NEW_YORK[DAY + 2])
    # Its horizon ended at session 35; five sessions without a bar are over at session 37.
    bring(market, until(DAY + 6).filter(~gone))
    materialize()
    assert {row[0] for row in found(market)} == {"AAA", "MC.PA"}
    bring(market, until(DAY + 7).filter(~gone))
    assert metadata_of(materialize(), "outcomes")["rows_inserted"] == 3
    own = read_outcomes(market).filter(pl.col("symbol") == "BBB")
    assert set(own["ended"]) == {"stopped trading"}
    assert own["exit_close"].to_list() == [close_of(MARKET, "BBB", NEW_YORK[DAY + 2])] * 3
    by_hand = [row for row in expected(MARKET, last=DAY + 2) if row[0] == "BBB"]
    assert [row for row in found(market) if row[0] == "BBB"] == by_hand
    # Judged once: that it trades again, and has done so all the time, changes nothing.
    before = written(market)
    bring(market, MARKET)
    result = materialize()
    assert written(market) == before
    # The bars that came late are said to have come late.
    follows = checks_of(result)["outcomes_follow_from_their_bars"]
    assert follows.passed
    assert follows.metadata["rewritten_since"].value == 3


@pytest.mark.parametrize("how", ["the source rewrites its history", "somebody enters it"])
def test_a_split_after_the_recommendation_changes_nothing(market: Database, how: str) -> None:
    split = NEW_YORK[DAY + 3]
    if how == "somebody enters it":
        bring(market, scaled(MARKET, "AAA", 3.0, before=split))
        # What was recommended at a third of these prices was recommended before the split.
        add_adjustment(market, "AAA", split, 1 / 3, None)
    else:
        bring(market, scaled(MARKET, "AAA", 1 / 3))
    result = materialize()
    assert found(market) == list(expected(MARKET))
    assert checks_of(result)["outcomes_follow_from_their_bars"].passed


def test_a_quarantined_instrument_waits_until_its_jump_is_explained(market: Database) -> None:
    quarantine(market)
    bring(market, MARKET)
    assert metadata_of(materialize(), "outcomes")["still_open"] == 3
    assert {row[0] for row in found(market)} == {"BBB", "MC.PA"}
    run(market, "DELETE FROM unexplained_jumps")
    assert metadata_of(materialize(), "outcomes")["rows_inserted"] == 3
    assert found(market) == list(expected(MARKET))
    # Quarantined afterwards, nothing can be said against what was judged before.
    quarantine(market)
    follows = checks_of(materialize())["outcomes_follow_from_their_bars"]
    assert follows.passed
    assert follows.metadata["without_bars"].value == 3


def quarantine(database: Database) -> None:
    run(
        database,
        "INSERT INTO unexplained_jumps (symbol, session, ratio, split_ratio, detected_at) "  # noqa: S608
        f"VALUES ('AAA', '{NEW_YORK[5]}', 0.5, 0.5, now())",
    )


def test_an_outcome_that_its_bars_do_not_give_is_found(market: Database) -> None:
    bring(market, MARKET)
    materialize()
    run(
        market,
        "UPDATE recommendation_outcomes SET hit = NOT hit WHERE recommendation_id IN (SELECT r.id "
        "FROM recommendations r JOIN instruments i ON i.id = r.instrument_id "
        "WHERE i.symbol = 'MC.PA' AND r.profile = 'moderate')",
    )
    follows = checks_of(materialize(ends_well=False))["outcomes_follow_from_their_bars"]
    assert not follows.passed
    assert follows.metadata["wrong_rows"].value == 1
    last = follows.metadata["wrong"].value.splitlines()[-1]
    assert last.startswith("| MC.PA |")
    assert last.endswith("| moderate | SELL | hit |")


def test_a_bar_that_is_rewritten_after_the_outcome_is_no_fault_of_it(market: Database) -> None:
    bring(market, MARKET)
    materialize()
    before = written(market)
    exit_bar = (pl.col("symbol") == "AAA") & (pl.col("session") == NEW_YORK[DAY + HORIZON])
    bring(
        market,
        MARKET.with_columns(pl.when(exit_bar).then(pl.col("close") * 1.001).otherwise("close").alias("close")),
    )
    follows = checks_of(materialize())["outcomes_follow_from_their_bars"]
    assert follows.passed
    assert follows.metadata["rewritten_since"].value == 3
    assert written(market) == before


def test_calls_that_never_come_true_are_a_warning(market: Database) -> None:
    bring(market, MARKET)
    for day in range(DAY - 20, DAY):
        # One after the other, as of the days that passed: an older session would not replace a newer one.
        run(market, "UPDATE recommendations SET is_active = false")
        sure = recommended(MARKET, day).with_columns(confidence=pl.lit(0.99))
        assert write_recommendations(market, sure, VERSION).added == 9
    check = checks_of(materialize())["calls_come_true_as_often_as_expected"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["judged"].value >= 1
    # Three instruments on 20 sessions at 99 %, and on that of the fixture at 50 %: (20 * 0.99 + 0.5) / 21 = 0.967
    dates = {*NEW_YORK[DAY - 20 : DAY + 1], *PARIS[DAY - 20 : DAY + 1]}
    assert f"| 63 | {len(dates)} | 96.7 % |" in check.metadata["surprises"].value


@pytest.mark.slow
def test_in_the_graph_outcomes_follow_the_source_day_by_day(
    new: Callable[[], Installation], tmp_path: Path
) -> None:
    here = new()
    path = tmp_path / "prices.parquet"
    source = {"provider": "files", "provider_path": str(path)}
    chosen = dg.AssetSelection.assets("instruments", "price_bars").without_checks() | dg.AssetSelection.assets(
        "outcomes"
    )
    activate(here.database())
    counts = []
    for day in range(DAY, DAY + HORIZON + 2):
        until(day).write_parquet(path)
        result = here.execute(chosen, platform=source)
        assert result.success
        counts.append(metadata_of(result, "outcomes")["dagster/row_count"])
        if day <= DAY + 1:
            assert write_recommendations(here.database(), recommended(MARKET, day), VERSION).added == 9
    # two days of nine recommendations, each over five sessions later
    assert counts == [0] * 5 + [9, 18]
    assert read_recommendations(here.database()).height == 9
    assert sorted(found(here.database())) == sorted(
        [*expected(MARKET), *expected(MARKET, DAY + 1, DAY + 1 + HORIZON)]
    )
    assert all(check.passed for check in checks_of(result).values())
