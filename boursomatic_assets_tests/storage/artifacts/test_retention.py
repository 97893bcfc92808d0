# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from boursomatic_assets.core.registry.bundle import MANIFEST
from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts import files as artifacts
from boursomatic_assets.storage.artifacts import retention
from boursomatic_assets.storage.artifacts.retention import Pruned, prune
from boursomatic_assets.storage.artifacts.snapshots import keep_snapshot, read_snapshot, save_snapshot
from boursomatic_assets.storage.postgres.model_events import list_events
from boursomatic_assets.storage.postgres.model_table import activate, list_versions, record_version
from boursomatic_assets_tests.support.bundles import record, save_small, whole
from boursomatic_assets_tests.support.catalog import run, versions_of
from boursomatic_assets_tests.support.panels import labelled

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.model_table import ModelRow


def snapshot(root: UPath, name: str) -> None:
    artifacts.write_whole(root / "snapshots" / f"{name}.parquet", b"12345678")


def refuse(database: Database, row: ModelRow, champion: str) -> None:
    record(database, replace(row, is_active=False), champion)


@pytest.fixture
def six(database: Database, root: UPath) -> Database:
    """v1 was active, v2 and v3 were refused, v4 is active, v5 and v6 were refused; a panel each, v5 that of v4."""
    for name in ("one", "two", "three", "four", "six"):
        snapshot(root, name)
    record(database, save_small(root, 1, "one"), None)
    for number, panel in ((2, "two"), (3, "three")):
        refuse(database, save_small(root, number, panel), "v1")
    record(database, save_small(root, 4, "four"), "v1")
    for number, panel in ((5, "four"), (6, "six")):
        refuse(database, save_small(root, number, panel), "v4")
    return database


def names(root: UPath, folder: str) -> list[str]:
    return sorted(path.name for path in (root / folder).iterdir())


def pruned(database: Database, root: UPath, keep: int, *, remove: bool = True) -> Pruned:
    return prune(database, root, keep, who="ann", remove=remove)


def test_prune_keeps_the_newest_and_ever_active_bundles(six: Database, root: UPath) -> None:
    before = versions_of(six, "model_versions")
    size = artifacts.folder_bytes(root / "models" / "v2")
    found = pruned(six, root, keep=1)
    # v6 is the newest, v4 is active and v1 was.
    assert found.versions == ["v5", "v3", "v2"]
    # The panel of v5 is also that of v4.
    assert found.snapshots == ["three.parquet", "two.parquet"]
    # Manifests that name panels of 3, 3 and 5 letters differ by up to two bytes; panels have eight each.
    assert 3 * size <= found.bytes - 2 * 8 <= 3 * size + 4
    assert names(root, "models") == ["v1", "v4", "v6"]
    assert names(root, "snapshots") == ["four.parquet", "one.parquet", "six.parquet"]
    assert versions_of(six, "model_versions") == before
    told = list_events(six)[-3:]
    assert [(event.event, event.version_from, event.version_to) for event in told] == [
        ("pruned", "v5", None),
        ("pruned", "v3", None),
        ("pruned", "v2", None),
    ]
    assert told[0].who == "ann"
    assert told[0].why == "never active, and not among the newest 1 bundles"
    # There is nothing left to remove.
    assert pruned(six, root, keep=1) == Pruned([], [], 0)
    with pytest.raises(MissingArtifactError, match="there is no bundle"):
        activate(six, "v5", who="ann", why="", inspect=whole)


def test_prune_keeps_closes_of_kept_bundles(six: Database, root: UPath) -> None:
    for name in ("seven", "closes", "stale"):
        snapshot(root, name)
    refuse(six, save_small(root, 7, "seven", "closes"), "v4")
    # v1 was active, v4 is, and v7 is the newest: their panels stay, and the closes of v7
    assert pruned(six, root, keep=1).snapshots == ["six.parquet", "stale.parquet", "three.parquet", "two.parquet"]
    assert names(root, "snapshots") == ["closes.parquet", "four.parquet", "one.parquet", "seven.parquet"]


def test_prune_without_remove_only_reports(six: Database, root: UPath) -> None:
    before = names(root, "models"), names(root, "snapshots"), list_events(six)
    said = pruned(six, root, keep=0, remove=False)
    assert (names(root, "models"), names(root, "snapshots"), list_events(six)) == before
    assert said == pruned(six, root, keep=0)
    assert said.versions == ["v6", "v5", "v3", "v2"]


@pytest.mark.parametrize(
    ("keep", "going"), [(0, "v6 v5 v3 v2"), (2, "v3 v2"), (3, "v3 v2"), (4, "v2"), (5, ""), (6, ""), (99, "")]
)
def test_prune_counts_newest_bundles_of_any_kind(six: Database, root: UPath, keep: int, going: str) -> None:
    assert pruned(six, root, keep).versions == going.split()


def test_prune_does_not_count_missing_bundles(six: Database, root: UPath) -> None:
    artifacts.remove_folder(root / "models" / "v6")
    assert pruned(six, root, keep=2).versions == ["v3", "v2"]


def test_prune_keeps_a_refused_version_activated_later(six: Database, root: UPath) -> None:
    activate(six, "v2", who="ann", why="", inspect=whole)
    activate(six, "v4", who="ann", why="", inspect=whole)
    assert pruned(six, root, keep=0).versions == ["v6", "v5", "v3"]


def test_prune_keeps_versions_older_than_the_log(six: Database, root: UPath) -> None:
    run(six, "DELETE FROM model_events")
    assert pruned(six, root, keep=0) == Pruned([], [], 0)


def test_prune_keeps_folders_of_other_programs(six: Database, root: UPath) -> None:
    # Never active: a row with a foreign folder, one without a digest, one without a bundle.
    elsewhere = root / "snapshots"
    run(six, f"UPDATE model_versions SET model_path = '{elsewhere}' WHERE version = 'v2'")
    run(six, "UPDATE model_versions SET manifest_sha256 = NULL WHERE version = 'v3'")
    run(six, "UPDATE model_versions SET model_path = NULL WHERE version = 'v5'")
    found = pruned(six, root, keep=0)
    assert found.versions == ["v6"]
    assert names(root, "models") == ["v1", "v2", "v3", "v4", "v5"]


def test_prune_keeps_snapshots_of_another_databases_bundles(six: Database, root: UPath) -> None:
    snapshot(root, "theirs")
    save_small(root, 77, "theirs")
    assert pruned(six, root, keep=0).versions == ["v6", "v5", "v3", "v2"]
    assert names(root, "models") == ["v1", "v4", "v77"]
    assert names(root, "snapshots") == ["four.parquet", "one.parquet", "theirs.parquet"]


def test_prune_removes_only_unreferenced_snapshots(six: Database, root: UPath) -> None:
    snapshot(root, "stray")
    artifacts.write_whole(root / "snapshots" / "notes.txt", b"mine")
    assert pruned(six, root, keep=99) == Pruned([], ["stray.parquet"], 8)
    assert "notes.txt" in names(root, "snapshots")


def test_prune_reaches_bundles_in_an_earlier_artifacts_folder(six: Database, root: UPath, tmp_path: Path) -> None:
    # ARTIFACTS_DIR has moved since.
    found = pruned(six, UPath(str(tmp_path / "new")), keep=1)
    assert (found.versions, found.snapshots) == (["v5", "v3", "v2"], ["three.parquet", "two.parquet"])
    assert names(root, "models") == ["v1", "v4", "v6"]


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_prune_stops_at_an_unreadable_manifest(six: Database, root: UPath, content: bytes) -> None:
    (root / "models" / "v1" / MANIFEST).write_bytes(content)
    before = names(root, "models"), names(root, "snapshots"), list_events(six)
    with pytest.raises(TamperedArtifactError, match="its training panel is unknown"):
        pruned(six, root, keep=0)
    assert (names(root, "models"), names(root, "snapshots"), list_events(six)) == before


def test_prune_ignores_unfinished_bundles(six: Database, root: UPath) -> None:
    (root / "models" / "unfinished").mkdir()
    (root / "models" / "unfinished" / "classifier.txt").write_bytes(b"tree")
    assert pruned(six, root, keep=99) == Pruned([], [], 0)
    assert "unfinished" in names(root, "models")


def test_prune_of_an_empty_home(database: Database, root: UPath) -> None:
    assert pruned(database, root, keep=0) == Pruned([], [], 0)
    snapshot(root, "stray")
    assert pruned(database, root, keep=0).snapshots == ["stray.parquet"]


def test_prune_sweeps_an_interrupted_removal(six: Database, tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "models" / f".v0.abcd{artifacts.DISCARDED}"
    left.mkdir(parents=True)
    (left / "classifier.txt").write_bytes(b"half")
    pruned(six, UPath(str(tmp_path / "artifacts")), keep=99)
    assert not left.exists()


def test_discard_reports_what_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactWriteError, match=r"gone\.parquet cannot be removed: No such file"):
        artifacts.discard(UPath(str(tmp_path / "gone.parquet")))


def test_keep_snapshot_restores_a_pruned_snapshot(database: Database, root: UPath) -> None:
    # The panel of a refused version, pruned while the next training uses the same panel.
    record(database, save_small(root, 1), None)
    panel = labelled()
    stored = save_snapshot(root, panel)
    refuse(database, save_small(root, 2, stored.fingerprint), "v1")
    again = save_snapshot(root, panel)
    assert pruned(database, root, keep=0).snapshots == [f"{stored.fingerprint}.parquet"]
    row = save_small(root, 3, stored.fingerprint)
    record_version(
        database, row, who="run", why="", champion="v1", beforehand=lambda: keep_snapshot(root, again, panel)
    )
    assert read_snapshot(root, again).equals(panel)
    # After recording, nothing of it is pruned.
    assert pruned(database, root, keep=0) == Pruned([], [], 0)


def test_prune_completes_the_log_of_a_killed_one(
    six: Database, root: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: UPath) -> None:
        # After the bundles, before the snapshots and the commit.
        if path.suffix == ".parquet":
            raise KeyboardInterrupt
        artifacts.discard(path)

    with monkeypatch.context() as patch:
        patch.setattr(retention, "discard", killed)
        with pytest.raises(KeyboardInterrupt):
            pruned(six, root, keep=1)
    assert names(root, "models") == ["v1", "v4", "v6"]
    assert "pruned" not in {event.event for event in list_events(six)}
    pruned(six, root, keep=1)
    told = [event.version_from for event in list_events(six) if event.event == "pruned"]
    assert sorted(filter(None, told)) == ["v2", "v3", "v5"]
    pruned(six, root, keep=1)
    assert [event.version_from for event in list_events(six) if event.event == "pruned"] == told


def test_concurrent_pruning_never_removes_an_active_bundle(database: Database, tmp_path: Path) -> None:
    root = UPath(str(tmp_path))
    record(database, save_small(root, 0), None)
    for number in range(1, 9):
        refuse(database, save_small(root, number), "v0")
    together = threading.Barrier(8)

    def act(number: int) -> str:
        together.wait()
        if number % 2:
            return " ".join(pruned(database, root, keep=number).versions)
        try:
            activate(database, f"v{number + 1}", who="ann", why="", inspect=whole)
        except MissingArtifactError:
            return "too late"
        return f"v{number + 1}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(8)))
    events = list_events(database)
    gone = {event.version_from for event in events if event.event == "pruned"}
    assert not gone & {event.version_to for event in events if event.event == "activated"}
    (active,) = [row for row in list_versions(database) if row.is_active]
    whole(active)
