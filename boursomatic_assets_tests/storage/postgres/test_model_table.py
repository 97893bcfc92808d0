from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.registry.gate import GateDecision
from boursomatic_assets.errors import (
    ActiveModelChangedError,
    MissingArtifactError,
    StorageError,
    TamperedArtifactError,
)
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.postgres.model_events import ModelEvent, list_events, never_active, version_before
from boursomatic_assets.storage.postgres.model_table import (
    ModelRow,
    activate,
    active_version,
    active_versions,
    find_version,
    list_versions,
    newest_version,
    record_version,
    rollback,
)
from boursomatic_assets_tests.support.bundles import MOMENT, record, replacing, save_small, whole
from boursomatic_assets_tests.support.catalog import rows, run, versions_of
from boursomatic_assets_tests.support.processes import at_once

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database

FIRST = ModelRow("20260304_050607_aaaaaa", MOMENT, "p" * 64, {"test_accuracy": 0.5}, "/artifacts/a", "d" * 64)
SECOND = replace(FIRST, version="20260304_050608_bbbbbb", trained_at=MOMENT + timedelta(seconds=1))
FIGURES = {"log_loss": {"difference": -0.01, "low": None}}
GATE = GateDecision(promoted=True, reason="not worse", champion="v1", challenger="v2", sessions=40, figures=FIGURES)


def told(database: Database) -> list[tuple[object, ...]]:
    """The log: event, from, to."""
    return [(event.event, event.version_from, event.version_to) for event in list_events(database)]


def test_record_version_activates_the_first(database: Database) -> None:
    assert active_versions(database) == []
    record(database, FIRST, None)
    assert active_versions(database) == [FIRST.version]
    # The row round-trips, and needs no default of the server.
    assert list_versions(database) == [FIRST] == [active_version(database)]
    assert rows(
        database, "SELECT created_at > '2026-01-01', metrics_json->>'test_accuracy' FROM model_versions"
    ) == [(True, "0.5")]


def test_record_version_replaces_the_champion_and_logs_it(database: Database) -> None:
    record(database, FIRST, None)
    record_version(database, replace(SECOND, gate=GATE), who="run 7", why="not worse", champion=FIRST.version)
    first, second = list_events(database)
    assert second == ModelEvent(
        "activated", FIRST.version, SECOND.version, "run 7", "not worse", FIGURES, second.at
    )
    assert (first.version_from, first.version_to, first.figures) == (None, FIRST.version, None)
    assert rows(
        database, "SELECT count(*) FROM model_events WHERE at BETWEEN '2026-01-01' AND now() AT TIME ZONE 'UTC'"
    ) == [(2,)]
    assert active_versions(database) == [SECOND.version]
    assert list_versions(database) == [replace(SECOND, gate=GATE), replace(FIRST, is_active=False)]


def test_record_version_writes_one_transaction(database: Database) -> None:
    record(database, FIRST, None)
    record(database, SECOND, FIRST.version)
    # The old row, the new row and the event were written by one transaction.
    written = "SELECT xmin::text FROM model_versions UNION ALL SELECT xmin::text FROM model_events WHERE id = 2"
    assert rows(database, f"SELECT count(*), count(DISTINCT xmin) FROM ({written}) w") == [(3, 1)]  # noqa: S608


def test_list_versions_newest_first_up_to_the_limit(database: Database) -> None:
    many = [replace(FIRST, version=f"v{day}", trained_at=MOMENT + timedelta(days=day)) for day in (2, 0, 1)]
    for row in many:
        replacing(database, row)
    # By insertion: the first was trained under a clock that was ahead.
    assert [row.version for row in list_versions(database)] == ["v1", "v0", "v2"]
    assert [row.version for row in list_versions(database, limit=2)] == ["v1", "v0"]
    newest = newest_version(database, FIRST.params_hash)
    assert newest is not None
    assert newest.version == "v1"


def test_versions_from_before_the_numbers_are_older_and_ordered_by_their_times(database: Database) -> None:
    for day in (9, 3, 5):
        replacing(database, replace(FIRST, version=f"v{day}", trained_at=MOMENT + timedelta(days=day)))
    run(database, "UPDATE model_versions SET insertion_number = NULL")
    replacing(database, replace(FIRST, version="v1", trained_at=MOMENT))
    assert [row.version for row in list_versions(database)] == ["v1", "v9", "v5", "v3"]


def test_list_versions_includes_other_programs_rows(database: Database) -> None:
    run(
        database,
        "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, is_active) "
        "VALUES (gen_random_uuid(), 'theirs', '2020-01-01', 'h', '{}', true)",
    )
    (row,) = list_versions(database)
    assert (row.version, row.model_path, row.manifest_sha256, row.metrics) == ("theirs", "", None, {})


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        (FIRST, StorageError, FIRST.version),  # a taken name
        (replace(FIRST, version="nan", metrics={"test_accuracy": float("nan")}), ValueError, "JSON"),
        (replace(FIRST, version="long", model_path="/" + "x" * 500), StorageError, "500"),
    ],
)
def test_record_version_refuses_an_impossible_row_unchanged(
    database: Database, row: ModelRow, error: type[Exception], match: str
) -> None:
    record(database, FIRST, None)
    record(database, SECOND, FIRST.version)
    before = versions_of(database, "model_versions")
    with pytest.raises(error, match=match):
        record(database, row, SECOND.version)
    assert versions_of(database, "model_versions") == before
    assert active_versions(database) == [SECOND.version]


def test_eight_concurrent_trainings_leave_one_active_version(database: Database, tmp_path: Path) -> None:
    record(database, FIRST, None)
    together = threading.Barrier(8)

    def train(_number: int) -> tuple[str, str | None]:
        together.wait()
        version, folder, _ = save_bundle(
            UPath(str(tmp_path)), MOMENT, lambda version: {"manifest.json": version.encode()}
        )
        return version, replacing(database, replace(FIRST, version=version, model_path=str(folder)))

    with ThreadPoolExecutor(8) as pool:
        found = dict(pool.map(train, range(8)))
    assert len(found) == 8
    assert len(active_versions(database)) == 1
    assert {row.version for row in list_versions(database)} == {*found, FIRST.version}
    # Each replaced another: a chain from the first to the active one.
    assert sorted(map(str, found.values())) == sorted({*found, FIRST.version} - {*active_versions(database)})


def test_four_concurrent_processes_leave_one_active_version(database: Database) -> None:
    record(database, FIRST, None)
    imports = """
from datetime import datetime
from upath import UPath
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.postgres.model_table import ModelRow
from boursomatic_assets_tests.support.bundles import replacing
database, root, moment = Database.open(settings), UPath(settings.artifacts_dir), datetime(2026, 3, 4, 5, 6, 7)
"""
    script = """
for _ in range(5):
    version, folder, digest = save_bundle(root, moment, lambda version: {"manifest.json": version.encode()})
    print(version, replacing(database, ModelRow(version, moment, "p", {}, str(folder), digest)))
"""
    chain = dict(line.split() for output in at_once(4, script, imports) for line in output.splitlines())
    assert len(chain) == 20
    (active,) = active_versions(database)
    assert {*chain} | {FIRST.version} == {row.version for row in list_versions(database)}
    assert sorted(chain.values()) == sorted({*chain, FIRST.version} - {active})


def test_record_version_keeps_the_champion_of_a_refused_version(database: Database) -> None:
    record(database, FIRST, None)
    refused = replace(SECOND, is_active=False, gate=replace(GATE, promoted=False))
    record_version(database, refused, who="run 7", why="worse", champion=FIRST.version)
    assert list_versions(database) == [refused, FIRST]
    assert find_version(database, SECOND.version) == refused
    assert told(database)[1:] == [("refused", FIRST.version, SECOND.version)]
    assert list_events(database, SECOND.version) == list_events(database)[1:]


def test_record_version_refuses_an_outdated_decision(database: Database) -> None:
    record(database, FIRST, None)
    before = versions_of(database, "model_versions"), versions_of(database, "model_events")
    for row in (SECOND, replace(SECOND, is_active=False)):
        for champion in (None, "another"):
            with pytest.raises(ActiveModelChangedError, match=f"{FIRST.version} is active now"):
                record(database, row, champion)
    assert (versions_of(database, "model_versions"), versions_of(database, "model_events")) == before


def test_record_version_refuses_an_inactive_first_version(database: Database) -> None:
    with pytest.raises(ActiveModelChangedError):
        record(database, replace(FIRST, is_active=False), None)
    assert list_versions(database) == []


def test_record_version_rolls_back_if_beforehand_raises(database: Database) -> None:
    def refuse() -> None:
        assert list_versions(database) == []
        message = "the panel is gone"
        raise MissingArtifactError(message)

    with pytest.raises(MissingArtifactError, match="the panel is gone"):
        record_version(database, FIRST, who="tester", why="", champion=None, beforehand=refuse)
    assert (list_versions(database), told(database)) == ([], [])


# Activating and going back.


@pytest.fixture
def three(database: Database, tmp_path: Path) -> Database:
    """Versions v1, v2 and v3, one after the other active, with bundles."""
    for number in (1, 2, 3):
        replacing(database, save_small(UPath(str(tmp_path)), number))
    return database


def active_after(database: Database, version: str) -> None:
    activate(database, version, who="ann", why="to see", inspect=whole)
    assert active_versions(database) == [version]


def back(database: Database) -> tuple[str, str]:
    return rollback(database, who="ann", why="it was better", inspect=whole)


def test_activate_logs_who_and_why_in_one_transaction(three: Database) -> None:
    assert activate(three, "v1", who="ann", why="to see", inspect=whole) == "v3"
    assert active_versions(three) == ["v1"]
    event = list_events(three)[-1]
    assert event == ModelEvent("activated", "v3", "v1", "ann", "to see", None, event.at)
    written = "SELECT xmin::text FROM model_versions WHERE version <> 'v2' UNION ALL SELECT xmin::text FROM "
    assert rows(three, f"SELECT count(DISTINCT xmin) FROM ({written} model_events WHERE id = 4) w") == [(1,)]  # noqa: S608


def test_activate_the_active_version_changes_nothing(three: Database) -> None:
    before = versions_of(three, "model_versions"), told(three)
    assert activate(three, "v3", who="ann", why="", inspect=whole) == "v3"
    assert (versions_of(three, "model_versions"), told(three)) == before


def test_activate_and_rollback_refuse_unservable_versions(three: Database, tmp_path: Path) -> None:
    before = versions_of(three, "model_versions"), told(three)
    with pytest.raises(MissingArtifactError, match="there is no version 'v9'"):
        activate(three, "v9", who="ann", why="", inspect=whole)
    (tmp_path / "models" / "v2" / "classifier.txt").write_bytes(b"other")
    with pytest.raises(TamperedArtifactError, match=r"classifier\.txt"):
        activate(three, "v2", who="ann", why="", inspect=whole)
    with pytest.raises(TamperedArtifactError, match=r"classifier\.txt"):
        back(three)
    assert (versions_of(three, "model_versions"), told(three)) == before


def test_rollback_twice_goes_back_two_versions(three: Database) -> None:
    assert back(three) == ("v3", "v2")
    assert active_versions(three) == ["v2"]
    assert told(three)[-1] == ("rolled back", "v3", "v2")
    assert back(three) == ("v2", "v1")
    with pytest.raises(MissingArtifactError, match="v1 is active, and none is logged before it"):
        back(three)
    assert active_versions(three) == ["v1"]


def test_rollback_undoes_activations(three: Database) -> None:
    active_after(three, "v1")
    assert back(three) == ("v1", "v3")
    assert back(three) == ("v3", "v2")
    active_after(three, "v3")
    assert back(three) == ("v3", "v2")
    assert back(three) == ("v2", "v1")


def test_rollback_without_a_version_is_refused(database: Database) -> None:
    with pytest.raises(MissingArtifactError, match="none is active"):
        back(database)


def test_activate_works_without_an_active_version(three: Database) -> None:
    run(three, "UPDATE model_versions SET is_active = false")
    with pytest.raises(MissingArtifactError, match="none is active"):
        back(three)
    assert activate(three, "v2", who="ann", why="", inspect=whole) is None
    assert told(three)[-1] == ("activated", None, "v2")


def test_rollback_reaches_versions_before_the_log(three: Database) -> None:
    run(three, "DELETE FROM model_events WHERE version_to <> 'v3'")
    assert back(three) == ("v3", "v2")


def test_eight_concurrent_activations_leave_a_gapless_log(three: Database, tmp_path: Path) -> None:
    for number in range(4, 9):
        replacing(three, save_small(UPath(str(tmp_path)), number))
    together, seen = threading.Barrier(9), list[int]()

    def choose(number: int) -> None:
        together.wait()
        for turn in range(3):
            activate(three, f"v{1 + (number + turn) % 8}", who=f"person {number}", why="", inspect=whole)

    def watch() -> None:
        together.wait()
        seen.extend(len(active_versions(three)) for _ in range(100))

    with ThreadPoolExecutor(9) as pool:
        done = [*(pool.submit(choose, number) for number in range(8)), pool.submit(watch)]
    assert [future.result() for future in done] == [None] * 9
    assert set(seen) == {1}
    # Each replaced the version that the event before it activated.
    events = told(three)
    assert [event[1] for event in events[1:]] == [event[2] for event in events[:-1]]
    assert active_versions(three) == [events[-1][2]]


def test_eight_concurrent_rollbacks_run_one_after_the_other(three: Database) -> None:
    together = threading.Barrier(8)

    def go(_number: int) -> str:
        together.wait()
        try:
            return back(three)[1]
        except MissingArtifactError:
            return "no further"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(go, range(8)))
    assert sorted(found) == ["no further"] * 6 + ["v1", "v2"]
    assert active_versions(three) == ["v1"]


def test_unique_rule_stops_a_writer_without_the_lock(database: Database) -> None:
    record(database, FIRST, None)
    with pytest.raises(sa.exc.IntegrityError, match="model_versions_one_per_is_active"):
        run(
            database,
            "INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active) "
            "VALUES (gen_random_uuid(), 'theirs', 'h', '{}', true)",
        )


# What the log says, alone.


def event(what: str, before: str | None, after: str | None) -> ModelEvent:
    return ModelEvent(what, before, after, "ann", "")


def test_version_before_includes_other_programs_activations() -> None:
    log = [event("activated", None, "a"), event("activated", "theirs", "b")]
    assert version_before(log, "b") == "theirs"
    # The other program activated its version again, after ours.
    assert version_before(log, "theirs") == "b"
    assert version_before([], "a") is None
    assert version_before([event("refused", "a", "b"), event("pruned", "b", None)], "a") is None


def test_never_active_lists_refused_versions_not_activated_since() -> None:
    log = [event("activated", None, "a"), event("refused", "a", "b"), event("refused", "old", "c")]
    assert never_active(log) == {"b", "c"}
    assert never_active([*log, event("pruned", "c", None)]) == {"b", "c"}
    assert never_active([*log, event("activated", "a", "b")]) == {"c"}
    assert never_active([*log, event("rolled back", "a", "c")]) == {"b"}
    # It was active when another was refused, so another program had activated it.
    assert never_active([*log, event("refused", "b", "d")]) == {"c", "d"}
