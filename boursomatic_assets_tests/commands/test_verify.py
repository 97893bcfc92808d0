from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from boursomatic_assets.core.registry.bundle import sha256, strict_json
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets_tests.conftest import upgraded
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import Installation, new_installation
from boursomatic_assets_tests.support.stored import altered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

PARTS = (
    "train_set", "validation_set", "test_set", "threshold", "classifier.txt", "regressor.txt", "metrics.json",
    "feature_importance.csv",
)  # fmt: skip
DIGEST = re.compile("[0-9a-f]{64}")
VERSION = dg.AssetSelection.assets("model_version")
# Trained and recorded once more on the bars that are stored, every check looked at.
TRAINED_AGAIN = VERSION.upstream() - dg.AssetSelection.assets("instruments", "price_bars")


@pytest.fixture(scope="module")
def version(trained_once: Installation) -> str:
    """The first version; tests that record others do not change which one it is."""
    return trained_once.versions()[-1].version


def bundle_of(installation: Installation, version: str) -> Path:
    return installation.artifacts / "models" / version


def manifest_of(installation: Installation, version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle_of(installation, version) / "manifest.json").read_bytes())
    return found


def snapshot_of(installation: Installation, version: str) -> Path:
    name = manifest_of(installation, version)["snapshot"]["fingerprint"]
    return installation.artifacts / "snapshots" / f"{name}.parquet"


@contextmanager
def recorded_otherwise(
    installation: Installation, version: str, files: Mapping[str, bytes], **said: object
) -> Iterator[None]:
    """A bundle that was recorded with these files and this in its manifest, every digest in order."""
    folder, manifest = bundle_of(installation, version), manifest_of(installation, version)
    manifest = {name: value for name, value in (manifest | said).items() if value is not None}
    for name, content in files.items():
        manifest["files"][name] = {"sha256": sha256(content), "bytes": len(content)}
    kept, digest = folder.with_name("kept"), sha256((folder / "manifest.json").read_bytes())
    shutil.copytree(folder, kept)
    try:
        for name, content in {**files, "manifest.json": strict_json(manifest)}.items():
            (folder / name).write_bytes(content)
        _set_digest(installation.database(), version, sha256(strict_json(manifest)))
        yield
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)
        _set_digest(installation.database(), version, digest)


def _set_digest(database: Database, version: str, digest: str) -> None:
    run(database, f"UPDATE model_versions SET manifest_sha256 = '{digest}' WHERE version = '{version}'")  # noqa: S608


def changes_in(installation: Installation, version: str) -> dict[str, Any]:
    ended = installation.run("verify", version, "--against-database", "--json")
    found: dict[str, Any] = json.loads(ended.output)
    assert ended.code == (1 if found["changed_rows"] else 0)
    return found


def test_a_version_is_made_again_byte_for_byte_at_any_thread_count(
    trained_once: Installation, version: str
) -> None:
    ended = trained_once.run("verify", version, BOURSOMATIC_THREADS="1")
    assert ended.code == 0, ended.said
    assert f"Identical: {version} was made again from its snapshot, byte for byte." in ended.said
    assert all(re.search(rf"{re.escape(part)} +identical", ended.said) for part in PARTS)
    found = json.loads(trained_once.run("verify", version, "--json", BOURSOMATIC_THREADS="3").output)
    assert found["identical"] is True
    assert [part["name"] for part in found["parts"]] == list(PARTS)
    for part in found["parts"][4:]:
        digest = sha256((bundle_of(trained_once, version) / part["name"]).read_bytes())
        assert (part["recorded"], part["found"]) == (digest, digest)


def test_the_snapshot_is_looked_for_beside_the_bundle_wherever_artifacts_go_today(
    trained_once: Installation, version: str, tmp_path: Path
) -> None:
    assert trained_once.run("verify", version, ARTIFACTS_DIR=str(tmp_path)).code == 0


def test_without_a_name_the_active_version_is_verified(trained_once: Installation) -> None:
    (active,) = trained_once.active()
    assert f"Identical: {active}" in trained_once.run("verify").said


def test_the_bars_of_the_database_are_those_of_the_snapshot(trained_once: Installation, version: str) -> None:
    ended = trained_once.run("verify", version, "--against-database")
    assert ended.code == 0, ended.said
    rows = pl.read_parquet(snapshot_of(trained_once, version)).height
    assert f"Unchanged: all {rows:,} rows of {version}, 2007-09-10 .. 2013-03-01." in ended.said


@contextmanager
def split_of_apple(installation: Installation, *follows: str) -> Iterator[None]:
    """History rewritten: an adjustment halves what Apple cost before a session; afterwards all is as before."""
    what_follows = dg.AssetSelection.assets(*follows).without_checks()
    # Past the command, which refuses an entry where there is no jump.
    add_adjustment(installation.database(), "AAPL", date(2010, 2, 26), 0.5, None)
    try:
        assert installation.execute(what_follows).success
        yield
    finally:
        assert installation.run("adjustments", "remove", "AAPL", "2010-02-26").code == 0
        assert installation.execute(what_follows).success


def test_when_history_was_rewritten_a_version_is_still_made_again_and_the_bars_that_changed_are_named(
    trained_once: Installation, version: str
) -> None:
    stored = pl.read_parquet(snapshot_of(trained_once, version)).filter(symbol="AAPL")
    halved = stored.filter(pl.col("session") < date(2010, 2, 26))
    with split_of_apple(trained_once, "features"):
        assert trained_once.run("verify", version).code == 0
        ended = trained_once.run("verify", version, "--against-database")
        found = changes_in(trained_once, version)
    assert ended.code == 1
    assert f"Changed since {version} was trained" in ended.said
    old, session = halved["close"][0], halved["session"][0]
    assert f"{old:.6g} -> {old / 2:.6g} ({session})" in ended.said
    assert [symbol["symbol"] for symbol in found["symbols"]] == ["AAPL"]
    closes = [bar for bar in found["bars"] if bar["change"] == "close"]
    assert [(bar["session"], bar["close_then"], bar["close_now"]) for bar in closes] == [
        (str(session), close, close * 0.5) for session, close in halved.select("session", "close").iter_rows()
    ]
    # Beyond the split closes are what they were; of features with a memory some are not.
    others = [bar for bar in found["bars"] if bar["change"] != "close"]
    assert {bar["change"] for bar in others} == {"features"}
    assert others[0]["session"] == "2010-02-26"
    # Taken back, every bar and feature is what it was.
    assert changes_in(trained_once, version)["bars"] == []


def test_one_corrected_bar_is_named_alone(trained_once: Installation, version: str) -> None:
    where = (
        "ts = '2011-03-01' AND interval = 'daily' AND instrument_id = "
        "(SELECT id FROM instruments WHERE symbol = 'MSFT')"
    )
    ((before, high),) = trained_once.ask(f"SELECT c, h FROM price_bars WHERE {where}")  # noqa: S608
    assert isinstance(before, float)
    try:
        run(trained_once.database(), f"UPDATE price_bars SET c = {before + 1!r}, h = h + 1 WHERE {where}")  # noqa: S608
        found = changes_in(trained_once, version)
    finally:
        run(trained_once.database(), f"UPDATE price_bars SET c = {before!r}, h = {high!r} WHERE {where}")  # noqa: S608
    assert found["bars"] == [
        {
            "symbol": "MSFT",
            "session": "2011-03-01",
            "change": "close",
            "close_then": before,
            "close_now": before + 1,
            # The table's features are those of before; what is derived from them and the close is not.
            "features": ["natr_14"],
        }
    ]


def test_an_altered_snapshot_is_refused_with_both_digests(trained_once: Installation, version: str) -> None:
    path = snapshot_of(trained_once, version)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with altered(path, bytes(content)):
        ended = trained_once.run("verify", version)
    assert ended.code == 1
    assert path.name in ended.said
    expected = manifest_of(trained_once, version)["snapshot"]["sha256"]
    assert DIGEST.findall(ended.said.replace(path.name, "")) == [expected, sha256(bytes(content))]


def test_a_snapshot_that_is_gone_is_named(trained_once: Installation, version: str) -> None:
    path = snapshot_of(trained_once, version)
    with altered(path, None):
        ended = trained_once.run("verify", version)
    assert ended.code == 1
    assert f"{path.name} of" in ended.said
    assert "is gone. Restore it from a backup" in ended.said


def test_an_altered_bundle_is_refused_with_both_digests(trained_once: Installation, version: str) -> None:
    path = bundle_of(trained_once, version) / "classifier.txt"
    content = path.read_bytes()
    with altered(path, content + b"\n"):
        ended = trained_once.run("verify", version)
    assert ended.code == 1
    assert "classifier.txt is not the file that was recorded" in ended.said
    assert DIGEST.findall(ended.said) == [sha256(content), sha256(content + b"\n")]


def test_other_packages_and_other_code_are_named_also_where_they_made_no_difference(
    trained_once: Installation, version: str
) -> None:
    manifest = manifest_of(trained_once, version)
    packages = {**manifest["packages"], "lightgbm": "0.0.1"}
    code = {**manifest["code"], "source_sha256": "0" * 64}
    with recorded_otherwise(trained_once, version, {}, packages=packages, code=code):
        ended = trained_once.run("verify", version)
    assert ended.code == 0, ended.said
    assert f"0.0.1 -> {manifest['packages']['lightgbm']}" in ended.said
    assert f"{'0' * 64} -> " in ended.said


def test_a_figure_that_does_not_come_out_again_is_shown_with_what_has_changed_since(
    trained_once: Installation, version: str
) -> None:
    manifest, path = manifest_of(trained_once, version), bundle_of(trained_once, version) / "metrics.json"
    figures = json.loads(path.read_bytes())
    better = strict_json({**figures, "test_accuracy": 0.99})
    code = {**manifest["code"], "source_sha256": "0" * 64}
    with recorded_otherwise(trained_once, version, {"metrics.json": better}, code=code):
        ended = trained_once.run("verify", version)
        found = json.loads(trained_once.run("verify", version, "--json").output)
    assert ended.code == 1
    assert f'\'"test_accuracy": 0.99,\' -> \'"test_accuracy": {figures["test_accuracy"]}' in ended.said
    assert "Differs: metrics.json. The data are the same; what has changed since: code." in ended.said
    assert [part["name"] for part in found["parts"] if not part["identical"]] == ["metrics.json"]
    assert {
        "kind": "code",
        "name": "source_sha256",
        "then": "0" * 64,
        "now": manifest["code"]["source_sha256"],
    } in (found["changed_since"])


def test_another_threshold_than_the_predictions_give_is_found_though_every_digest_is_in_order(
    trained_once: Installation, version: str
) -> None:
    rule = manifest_of(trained_once, version)["threshold"]
    with recorded_otherwise(trained_once, version, {}, threshold={**rule, "tau": 0.123, "temperature": 2.0}):
        ended = trained_once.run("verify", version)
    assert ended.code == 1
    assert re.search(r"threshold +differs", ended.said)
    assert "Differs: threshold." in ended.said


def test_a_version_without_a_snapshot_says_so(trained_once: Installation, version: str) -> None:
    with recorded_otherwise(trained_once, version, {}, snapshot=None):
        ended = trained_once.run("verify", version)
    assert ended.code == 1
    assert f"version {version} was recorded without a snapshot of its training panel" in ended.said


def test_two_versions_of_the_same_data_share_one_snapshot_and_none_is_taken_of_other_labels(
    trained_once: Installation, version: str
) -> None:
    path = snapshot_of(trained_once, version)
    written = path.stat()
    assert trained_once.execute(TRAINED_AGAIN).success
    newest = trained_once.versions()[0].version
    assert newest != version
    assert snapshot_of(trained_once, newest) == path
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert trained_once.run("verify", newest).code == 0

    stored = trained_once.artifacts / "assets" / "labels.parquet"
    stamp, panel = pl.read_parquet_metadata(stored)["boursomatic"], pl.read_parquet(stored)
    with altered(stored, None):
        panel.with_columns(pl.col("close") * 2).write_parquet(stored, metadata={"boursomatic": stamp})
        result = trained_once.execute(VERSION.without_checks())
    assert "labels is not what was stored" in failure_of(result)
    assert trained_once.versions()[0].version == newest


def test_no_version_is_recorded_of_sets_that_were_cut_from_other_labels(trained_once: Installation) -> None:
    before = trained_once.versions()
    with split_of_apple(trained_once, "features", "labels"):
        result = trained_once.execute(VERSION.without_checks())
    assert "train_set: labels" in failure_of(result)
    assert trained_once.versions() == before


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """Everything that the one failed step of a run says, with what it was caused by."""
    (failed,) = [event for event in result.all_node_events if event.is_step_failure]
    return str(failed.step_failure_data)


def test_a_version_that_is_not_there_is_named(trained_once: Installation) -> None:
    ended = trained_once.run("verify", "20200101_000000_abcdef")
    assert ended.code == 1
    assert "there is no version '20200101_000000_abcdef'" in ended.said
    assert "boursomatic models list" in ended.said


def test_before_the_first_training_no_version_is_active(settings: Settings) -> None:
    upgraded(settings)
    with new_installation(settings.database_url) as empty:
        ended = empty.run("verify")
    assert ended.code == 1
    assert "no version is active" in ended.said
