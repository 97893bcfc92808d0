# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.errors import PanelContractError, StorageError
from boursomatic_assets.storage.postgres.recommendations_table import (
    GIVEN_SCHEMA,
    WrittenRows,
    write_recommendations,
)
from boursomatic_assets.storage.postgres.stored_recommendations import (
    OPEN_SCHEMA,
    STORED_SCHEMA,
    count_open,
    find_recommendation,
    open_recommendations,
    read_recommendations,
)
from boursomatic_assets_tests.support.calls import (
    MONDAY,
    TUESDAY,
    VERSION,
    activate,
    call,
    calls,
    calls_of,
    with_model,
)
from boursomatic_assets_tests.support.catalog import rows, run, versions_of

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

LATER = "20240109_000000_fedcba"
ACTIVE = (
    "SELECT symbol, profile, r.session::text FROM recommendations r JOIN instruments i ON i.id = instrument_id "
    "WHERE r.is_active ORDER BY 1, 2"
)


@pytest.fixture
def ready(database: Database) -> Database:
    return with_model(database, "AAA", "BBB")


def write(database: Database, given: pl.DataFrame, version: str = VERSION) -> tuple[int, int, int]:
    written = write_recommendations(database, given, version)
    return written.added, written.archived, written.unchanged


def test_recommendations_round_trip(ready: Database) -> None:
    given = calls_of(["BBB", "AAA"])
    assert write_recommendations(ready, given, VERSION) == WrittenRows(added=6, archived=0, unchanged=0)
    found = read_recommendations(ready, with_snapshot=True)
    assert found.select(*GIVEN_SCHEMA).equals(given.sort("symbol", maintain_order=True))
    assert found["profile"].to_list() == [*PROFILE_NAMES, *PROFILE_NAMES]
    assert found["version"].unique().to_list() == [VERSION]
    assert found["archived_at"].null_count() == 6
    assert found["is_active"].all()
    assert found["id"].n_unique() == 6
    assert (datetime.now(UTC).replace(tzinfo=None) - found["generated_at"][0]) < timedelta(minutes=5)


def test_recommendation_hold_has_no_prices(ready: Database) -> None:
    given = calls(call("AAA", label="HOLD", stop_loss=None, take_profit=None))
    write(ready, given)
    assert read_recommendations(ready).select("label", "stop_loss", "take_profit").rows() == [("HOLD", None, None)]


def test_write_recommendations_twice_changes_nothing(ready: Database) -> None:
    given = calls_of(["AAA", "BBB"])
    write(ready, given)
    before = versions_of(ready, "recommendations")
    assert write(ready, given.reverse()) == (0, 0, 6)
    assert versions_of(ready, "recommendations") == before


def test_write_recommendations_archives_the_replaced_row(ready: Database) -> None:
    write(ready, calls_of(["AAA", "BBB"]))
    kept = "SELECT id::text, (to_jsonb(r) - 'is_active' - 'archived_at')::text FROM recommendations r ORDER BY 1"
    before = rows(ready, kept)
    # AAA changes in one profile; BBB is the same.
    changed = calls(call("AAA", "aggressive", content="new"), call("AAA", "moderate"), call("BBB", "moderate"))
    assert write(ready, changed) == (1, 1, 2)
    assert [row for row in rows(ready, kept) if row in before] == before
    ((archived, created),) = rows(
        ready,
        "SELECT o.archived_at, n.generated_at FROM recommendations o JOIN recommendations n "
        "USING (instrument_id, profile) WHERE NOT o.is_active AND n.is_active",
    )
    # One moment: there was always exactly one active row.
    assert archived == created
    assert len(rows(ready, ACTIVE)) == 6


def test_write_recommendations_replaces_for_new_session_or_model(ready: Database) -> None:
    assert write(ready, calls_of(["AAA", "BBB"])) == (6, 0, 0)
    assert write(ready, calls_of(["AAA", "BBB"], TUESDAY)) == (6, 6, 0)
    assert {row[2] for row in rows(ready, ACTIVE)} == {str(TUESDAY)}
    activate(ready, LATER)
    # A new model may serve an older session: its digest differs.
    assert write(ready, calls_of(["AAA", "BBB"], MONDAY, LATER), LATER) == (6, 6, 0)
    assert {row[2] for row in rows(ready, ACTIVE)} == {str(MONDAY)}
    assert rows(ready, "SELECT count(*) FROM recommendations") == [(18,)]


def test_write_recommendations_skips_an_older_session(ready: Database) -> None:
    write(ready, calls_of(["AAA"], TUESDAY))
    before = versions_of(ready, "recommendations")
    assert write(ready, calls_of(["AAA"], MONDAY)) == (0, 0, 3)
    assert versions_of(ready, "recommendations") == before
    assert write(ready, calls_of(["AAA"], TUESDAY, "corrected")) == (3, 3, 0)


def test_write_recommendations_archives_other_programs_rows(ready: Database) -> None:
    run(
        ready,
        "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
        "features_snapshot) SELECT gen_random_uuid(), i.id, m.id, 'moderate', 'SELL', 0.9, '[1]' "
        "FROM instruments i, model_versions m",
    )
    assert write(ready, calls(call("AAA"))) == (1, 1, 0)
    found = read_recommendations(ready, active_only=False)
    assert found.select("symbol", "label", "is_active").rows() == [
        ("AAA", "BUY", True),
        ("AAA", "SELL", False),
        ("BBB", "SELL", True),
    ]


def test_write_recommendations_accepts_no_rows(ready: Database) -> None:
    assert write(ready, calls()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (calls(call("AAA"), call("AAA", content="other")), r"come twice.*\('AAA', 'moderate'\)"),
        (calls(call("AAA"), call("BBB", features_snapshot="{}")), r"no digest.*\('BBB', 'moderate'\)"),
        (calls(call("AAA"), call("BBB", "reckless")), r"of no profile there is.*\('BBB', 'reckless'\)"),
        (calls(call("AAA"), call("BBB", confidence=1.1)), r"confidence outside 0 to 1.*\('BBB', 'moderate'\)"),
        (calls(call("AAA"), call("BBB", confidence=float("nan"))), "confidence outside 0 to 1"),
        (calls(call("AAA"), call("BBB", confidence=None)), "confidence outside 0 to 1"),
        (calls(call("AAA"), call("CCC")), r"name no instrument: \['CCC'\]"),
        (calls(call("AAA")).drop("session"), r"missing: \['session'\]"),
    ],
)
def test_write_recommendations_refuses_impossible_rows_unchanged(
    ready: Database, given: pl.DataFrame, reason: str
) -> None:
    write(ready, calls_of(["AAA", "BBB"]))
    before = versions_of(ready, "recommendations")
    with pytest.raises(PanelContractError, match=reason):
        write_recommendations(ready, given, VERSION)
    assert versions_of(ready, "recommendations") == before


def test_write_recommendations_rolls_back_on_a_database_error(ready: Database) -> None:
    write(ready, calls_of(["AAA", "BBB"]))
    before = versions_of(ready, "recommendations")
    # The old rows are archived by then.
    with pytest.raises(StorageError, match="refused"):
        write(ready, calls(call("AAA", content="new"), call("BBB", content="new", label="NO LABEL THERE IS")))
    assert versions_of(ready, "recommendations") == before


def test_write_recommendations_requires_the_active_version(ready: Database) -> None:
    with pytest.raises(StorageError, match="there is no model version 'nobody'"):
        write(ready, calls(call("AAA")), "nobody")
    activate(ready, LATER)
    with pytest.raises(StorageError, match=f"{VERSION!r} is no longer the active one"):
        write(ready, calls(call("AAA")))
    assert rows(ready, "SELECT count(*) FROM recommendations") == [(0,)]


def test_write_recommendations_notices_a_concurrent_training(ready: Database) -> None:
    # A training has deactivated the version and not committed when the write reads it.
    moved, finish = threading.Event(), threading.Event()

    def train() -> None:
        with ready.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE model_versions SET is_active = false")
            moved.set()
            finish.wait(30)

    with ThreadPoolExecutor(2) as pool:
        training = pool.submit(train)
        moved.wait(30)
        writing = pool.submit(write, ready, calls(call("AAA")))
        with pytest.raises(TimeoutError):
            writing.result(0.5)
        finish.set()
        training.result(30)
        with pytest.raises(StorageError, match="no longer the active one"):
            writing.result(30)


def test_write_recommendations_serialises_writers(ready: Database) -> None:
    together = threading.Barrier(4)

    def write_mine(number: int) -> WrittenRows:
        together.wait()
        return write_recommendations(ready, calls_of(["AAA", "BBB"], content=str(number)), VERSION)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(write_mine, range(4)))
    # The first archives nothing, each later one the six rows before it.
    assert sorted(written.archived for written in done) == [0, 6, 6, 6]
    assert [written.added for written in done] == [6] * 4
    assert len(rows(ready, ACTIVE)) == 6


def test_symbol_on_two_exchanges_needs_its_exchange(database: Database) -> None:
    with_model(database, "AAA")
    run(database, "INSERT INTO instruments (id, symbol, exchange) VALUES (gen_random_uuid(), 'AAA', 'XPAR')")
    with pytest.raises(PanelContractError, match=r"name no instrument: \['AAA'\]"):
        write(database, calls(call("AAA")))
    write(database, calls(call("AAA@XPAR")))
    assert read_recommendations(database).select("symbol", "exchange").rows() == [("AAA@XPAR", "XPAR")]


# Reading.


@pytest.fixture
def told(ready: Database) -> Database:
    """Two sessions' recommendations, of which the second is active; BBB is to be sold in one profile."""
    write(ready, calls_of(["AAA", "BBB"]))
    sold = call("BBB", "conservative", TUESDAY, label="SELL", confidence=0.75)
    write(ready, calls(*calls_of(["AAA"], TUESDAY).iter_rows(named=True), sold))
    return ready


def test_read_recommendations_filters(told: Database) -> None:
    assert read_recommendations(told).height == 6
    assert read_recommendations(told, profile="moderate")["symbol"].to_list() == ["AAA", "BBB"]
    assert read_recommendations(told, label="SELL").select("symbol", "profile").rows() == [("BBB", "conservative")]
    assert read_recommendations(told, symbols=["BBB"])["session"].to_list() == [TUESDAY, MONDAY, MONDAY]
    assert read_recommendations(told, symbols=["BBB"], profile="moderate", label="SELL").is_empty()
    assert read_recommendations(told, limit=2)["profile"].to_list() == ["conservative", "moderate"]
    assert read_recommendations(told, symbols=["' OR true --"]).is_empty()


def test_read_recommendations_lists_archived_rows_after_their_successor(told: Database) -> None:
    found = read_recommendations(told, symbols=["AAA"], profile="moderate", active_only=False)
    assert found.select("session", "is_active").rows() == [(TUESDAY, True), (MONDAY, False)]
    assert found["archived_at"].to_list() == [None, found["generated_at"][0]]


def test_a_clock_that_was_ahead_makes_no_row_the_newest(told: Database) -> None:
    run(told, f"UPDATE recommendations SET generated_at = '2999-01-01' WHERE session = '{MONDAY}'")
    found = read_recommendations(told, symbols=["AAA"], active_only=False, profile="moderate")
    assert found["session"].to_list() == [TUESDAY, MONDAY]


def test_read_recommendations_leaves_out_inactive_instruments(told: Database) -> None:
    run(told, "UPDATE instruments SET is_active = false WHERE symbol = 'AAA'")
    assert read_recommendations(told)["symbol"].unique().to_list() == ["BBB"]
    assert "AAA" in read_recommendations(told, active_only=False)["symbol"]


def test_read_recommendations_marks_rows_of_the_active_model(told: Database) -> None:
    assert read_recommendations(told)["is_of_active_model"].all()
    activate(told, LATER)
    assert not read_recommendations(told)["is_of_active_model"].any()


def test_readers_of_an_empty_table_keep_the_schema(database: Database) -> None:
    assert read_recommendations(database).schema == STORED_SCHEMA
    assert open_recommendations(database).schema == OPEN_SCHEMA
    assert find_recommendation(database, "AAA") == []


def test_find_recommendation_by_id(told: Database) -> None:
    key = read_recommendations(told, symbols=["BBB"], profile="conservative")["id"].item()
    (found,) = find_recommendation(told, key)
    assert (found["id"], found["symbol"], found["label"], found["confidence"]) == (key, "BBB", "SELL", 0.75)
    assert (found["version"], found["model_path"], found["manifest_sha256"]) == (VERSION, f"/models/{VERSION}", "m")
    assert (found["session"], found["is_active"], found["archived_at"]) == (TUESDAY, True, None)
    assert found["snapshot"]["close"] == 10.1
    assert found["snapshot"] == json.loads(str(call("BBB", "conservative", TUESDAY)["features_snapshot"]))
    assert rows(told, "SELECT id::text FROM instruments WHERE symbol = 'BBB'") == [(found["instrument_id"],)]
    assert find_recommendation(told, key.upper()) == [found]
    assert find_recommendation(told, "00000000-0000-0000-0000-000000000000") == []


def test_find_recommendation_by_symbol_and_session(told: Database) -> None:
    now = find_recommendation(told, "BBB")
    assert [(row["profile"], row["session"]) for row in now] == list(
        zip(PROFILE_NAMES, (TUESDAY, MONDAY, MONDAY), strict=True)
    )
    then = find_recommendation(told, "AAA", MONDAY)
    assert [(row["profile"], row["is_active"]) for row in then] == [(name, False) for name in PROFILE_NAMES]
    assert find_recommendation(told, "AAA", MONDAY - timedelta(days=1)) == []


def test_write_recommendations_replaces_another_language(ready: Database) -> None:
    given = calls_of(["AAA"])
    write(ready, given)
    french = given.with_columns(justification=pl.lit("Le cours a perdu 6 % en un mois."))
    assert write(ready, french) == (3, 3, 0)
    assert write(ready, french) == (0, 0, 3)


def test_open_recommendations_have_no_outcome(told: Database) -> None:
    waiting = open_recommendations(told)
    # Six of Monday, and of Tuesday three of AAA and one of BBB.
    assert waiting.group_by("session").len().sort("session").rows() == [(MONDAY, 6), (TUESDAY, 4)]
    first = waiting.row(0, named=True)
    assert (first["symbol"], first["exchange"], first["profile"], first["label"]) == (
        "AAA", "XNYS", "conservative", "BUY",
    )  # fmt: skip
    assert (first["close"], first["stop_loss"], first["take_profit"]) == (10.1, 9.5, 11.5)
    assert (first["horizon_days"], first["buy_threshold"], first["sell_threshold"]) == (20, 0.05, -0.02)
    # Twenty sessions take twenty days at least, counted from Monday and from Tuesday.
    over = {days: open_recommendations(told, until=MONDAY + timedelta(days=days)).height for days in (19, 20, 21)}
    assert over == {19: 0, 20: 6, 21: waiting.height}
    assert count_open(told) == waiting.height
    run(
        told,
        "INSERT INTO recommendation_outcomes SELECT id, session, 1, session, 1, 0, 'HOLD', false, NULL, NULL, "
        f"'horizon' FROM recommendations WHERE session = '{MONDAY}'",
    )
    assert open_recommendations(told)["session"].unique().to_list() == [TUESDAY]


def test_open_recommendations_exclude_other_programs_rows(ready: Database) -> None:
    run(
        ready,
        "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
        "features_snapshot) SELECT gen_random_uuid(), i.id, m.id, 'moderate', 'SELL', 0.9, '{\"close\": \"?\"}' "
        "FROM instruments i, model_versions m",
    )
    assert open_recommendations(ready).is_empty()
