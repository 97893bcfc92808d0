"""The walk-forward in an installation: folds alone, together, again, half of them, stale, and their summary."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.artifacts.folds import ASSET
from boursomatic_assets.storage.artifacts.stamps import from_parquet
from boursomatic_assets.storage.dagster.instance import FOLD_PARTITIONS, open_instance, register_folds
from boursomatic_assets_tests.assets.conftest import installation_on
from boursomatic_assets_tests.support.installation import checks_of, metadata_of
from boursomatic_assets_tests.support.small_market import bars_on, scaled, sessions_of
from boursomatic_assets_tests.support.stored import overwrite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from boursomatic_assets_tests.support.installation import Installation

TREES = {"n_estimators": 3, "max_depth": 3, "num_leaves": 7}
EXPERIMENT: dict[str, Any] = {
    "horizon": 5,
    "buy_threshold": 0.02,
    "features": ["ret_1d", "ret_5d", "vol_20d"],
    "classifier": TREES,
    "regressor": TREES,
    "bootstrap_draws": 100,
    "walk_forward": {"folds": 3},
}
KEYS = ["fold_01", "fold_02", "fold_03"]
TO_LABELS = dg.AssetSelection.assets("instruments", "price_bars", "features", "labels").without_checks()
FOLDS = dg.AssetSelection.assets(ASSET)
SUMMARY = dg.AssetSelection.assets("walk_forward_summary")
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


def take(installation: Installation, bars: pl.DataFrame, path: Path, experiment: dict[str, Any]) -> None:
    """Bring an installation from a file of bars to labels."""
    bars.write_parquet(path)
    platform = {"provider": "files", "provider_path": str(path)}
    assert installation.execute(TO_LABELS, platform=platform, experiment=experiment).success


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    sessions = sessions_of("XNYS", 200)
    return pl.concat(bars_on(sessions, symbol) for symbol in SYMBOLS)


@pytest.fixture(scope="module")
def _labelled(
    postgres: sa.Engine, _upgraded: Installation, bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    assert _upgraded.database_url is not None
    template = _upgraded.database_url.rpartition("/")[2].partition("?")[0]
    with installation_on(postgres, template) as installation:
        shutil.copytree(_upgraded.home, installation.home, dirs_exist_ok=True)
        take(installation, bars, tmp_path_factory.mktemp("bars") / "bars.parquet", EXPERIMENT)
        yield installation


@pytest.fixture
def labelled(_labelled: Installation) -> Installation:
    """Labels of four symbols over 200 sessions; no fold yet."""
    shutil.rmtree(folder(_labelled), ignore_errors=True)
    return _labelled


def folder(installation: Installation) -> Path:
    return installation.artifacts / "assets" / ASSET


def digests(installation: Installation) -> dict[str, str]:
    """Every file of the folds, half-written ones too."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder(installation).iterdir())
    }


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the first step that failed said."""
    assert not result.success
    error = result.get_step_failure_events()[0].step_failure_data.error
    assert error is not None
    return str(error.cause.message if error.cause else error.message)


def test_a_run_of_all_folds_leaves_a_file_and_metadata_of_each(labelled: Installation) -> None:
    result = labelled.execute(FOLDS, experiment=EXPERIMENT)
    assert result.success
    assert list(digests(labelled)) == [f"{key}.parquet" for key in KEYS]
    made = {
        event.materialization.partition: event.materialization
        for event in result.all_events
        if event.is_step_materialization
    }
    assert sorted(made) == KEYS
    # 200 bars less 20 for vol_20d and 5 for the horizon are 175 sessions: 70 = 0.4 x 175 are history, 35 a fold.
    for key, materialization in made.items():
        recorded = {name: entry.value for name, entry in materialization.metadata.items()}
        assert recorded["dagster/row_count"] == 35 * len(SYMBOLS)
        assert recorded["sessions"] == 35
        assert recorded["seconds"] > 0
        assert -1 <= recorded["rank_ic"] <= 1
        assert recorded["train_last_label_end"] < recorded["first_session"]
        content = (folder(labelled) / f"{key}.parquet").read_bytes()
        panel, stamp = from_parquet(content, ASSET)
        assert panel.height == recorded["dagster/row_count"]
        assert stamp["experiment"] == Experiment.parse(EXPERIMENT).part_for(ASSET)
        assert stamp["fold"]["train_rows"] == recorded["train_rows"]
    # What is trained on grows by a fold: 35 sessions of each symbol.
    rows = [made[key].metadata["train_rows"].value for key in KEYS]
    assert [later - earlier for earlier, later in pairwise(rows)] == [35 * 4, 35 * 4]


def test_a_fold_run_alone_is_the_same_byte_for_byte_and_leaves_the_others(labelled: Installation) -> None:
    assert labelled.execute(FOLDS, experiment=EXPERIMENT, fold="fold_02").success
    alone = digests(labelled)
    assert list(alone) == ["fold_02.parquet"]
    assert labelled.execute(FOLDS, experiment=EXPERIMENT).success
    together = digests(labelled)
    assert together["fold_02.parquet"] == alone["fold_02.parquet"]
    assert labelled.execute(FOLDS, experiment=EXPERIMENT, fold="fold_03").success
    assert digests(labelled) == together


def test_a_run_that_fails_half_way_leaves_whole_folds_only(labelled: Installation) -> None:
    obstacle = folder(labelled) / "fold_03.parquet"
    obstacle.mkdir(parents=True)
    assert "cannot be written" in failure_of(labelled.execute(FOLDS, experiment=EXPERIMENT))
    obstacle.rmdir()
    half = digests(labelled)
    assert list(half) == ["fold_01.parquet", "fold_02.parquet"]
    assert labelled.execute(FOLDS, experiment=EXPERIMENT).success
    assert half.items() <= digests(labelled).items()


def test_a_partition_beyond_the_experiment_says_how_to_remove_it_and_that_helps(labelled: Installation) -> None:
    with labelled.entered(), open_instance(labelled.settings, labelled.database()) as instance:
        register_folds(instance, 4)
    said = failure_of(labelled.execute(FOLDS, experiment=EXPERIMENT, fold="fold_04"))
    assert "there is no fold_04 among the 3 folds of the experiment" in said
    assert "boursomatic materialize --select walk_forward --folds 3" in said
    assert labelled.execute(FOLDS, experiment=EXPERIMENT).success
    with labelled.entered(), open_instance(labelled.settings, labelled.database()) as instance:
        assert instance.get_dynamic_partitions(FOLD_PARTITIONS) == KEYS


def test_the_summary_is_of_all_folds_and_its_check_passes(labelled: Installation) -> None:
    result = labelled.execute(FOLDS | SUMMARY, experiment=EXPERIMENT)
    assert result.success
    assert checks_of(result)["folds_train_on_the_past"].passed
    recorded = metadata_of(result, "walk_forward_summary")
    value = json.loads((labelled.artifacts / "assets/walk_forward_summary.json").read_text())["value"]
    assert value["scope"] == "walk-forward"
    assert (value["sessions"], value["rows"]) == (105, 105 * 4)
    assert [fold["fold"] for fold in value["folds"]] == [1, 2, 3]
    assert value["folds"][0]["tau"] is None
    for picture in ("folds_in_time", "figures_per_fold"):
        assert recorded[picture].startswith("![")


def test_the_summary_names_the_folds_that_are_missing(labelled: Installation) -> None:
    assert labelled.execute(FOLDS, experiment=EXPERIMENT, fold="fold_02").success
    said = failure_of(labelled.execute(SUMMARY, experiment=EXPERIMENT))
    assert "of the 3 folds of walk_forward these were never stored: fold_01, fold_03" in said
    assert "boursomatic materialize --select 'walk_forward+' --folds 3" in said


def test_folds_of_another_experiment_are_refused(labelled: Installation) -> None:
    assert labelled.execute(FOLDS, experiment=EXPERIMENT).success
    other = EXPERIMENT | {"walk_forward": {"folds": 3, "window": "rolling"}}
    said = failure_of(labelled.execute(SUMMARY, experiment=other))
    assert "walk_forward was built under another experiment" in said
    assert "'window': 'expanding'" in said


def test_folds_that_predict_the_same_fail_a_blocking_check(labelled: Installation) -> None:
    assert labelled.execute(FOLDS | SUMMARY, experiment=EXPERIMENT).success
    # The second fold's file once more, recorded as if it were the third's.
    path, content = folder(labelled) / "fold_03.parquet", (folder(labelled) / "fold_02.parquet").read_bytes()
    overwrite(labelled, ASSET, path, content, partition="fold_03")
    check = dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("walk_forward_summary"), "folds_train_on_the_past")
    )
    made = checks_of(labelled.execute(check, experiment=EXPERIMENT))["folds_train_on_the_past"]
    assert (made.passed, made.blocking) == (False, True)
    (found,) = [entry.value for name, entry in made.metadata.items() if name == "overlaps"]
    assert "fold 3 holds predictions of fold 2" in found


def test_folds_of_other_labels_are_refused(labelled: Installation, bars: pl.DataFrame, tmp_path: Path) -> None:
    assert labelled.execute(FOLDS, experiment=EXPERIMENT).success
    take(labelled, scaled(bars, "AAA", 1.01, before=bars["session"][150]), tmp_path / "bars.parquet", EXPERIMENT)
    assert labelled.execute(FOLDS, experiment=EXPERIMENT, fold="fold_02").success
    said = failure_of(labelled.execute(SUMMARY, experiment=EXPERIMENT))
    assert "fold_01, fold_03 of walk_forward were made from other labels than those stored now" in said


@pytest.mark.slow
def test_a_killed_run_leaves_whole_folds_and_the_next_one_succeeds(
    labelled: Installation, bars: pl.DataFrame, tmp_path: Path
) -> None:
    take(labelled, bars, tmp_path / "bars.parquet", {})
    process = labelled.start("materialize", "--select", ASSET)
    while process.poll() is None and not (folder(labelled) / "fold_02.parquet").exists():
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode < 0
    stored = digests(labelled)
    whole = [name for name in stored if not name.startswith(".")]
    assert whole[:2] == ["fold_01.parquet", "fold_02.parquet"]
    assert len(whole) < 8
    assert labelled.run("materialize", "--select", ASSET).code == 0
    after = digests(labelled)
    assert [after[name] for name in whole] == [stored[name] for name in whole]
    # The run was that of the reference experiment, so that a person reads a fold without naming one.
    with labelled.entered(), open_instance(labelled.settings, labelled.database()) as instance:
        panel = defs.load_asset_value(ASSET, python_type=pl.DataFrame, instance=instance, partition_key="fold_02")
    assert panel["fold"].unique().to_list() == [2]


def test_partitions_are_named_when_the_instance_is_opened_and_keep_their_order(labelled: Installation) -> None:
    with labelled.entered(), open_instance(labelled.settings, labelled.database()) as instance:
        for count in (5, 2, 3):
            tags = register_folds(instance, count)
            assert instance.get_dynamic_partitions(FOLD_PARTITIONS) == [f"fold_0{n}" for n in range(1, count + 1)]
            assert list(tags.values()) == ["fold_01", f"fold_0{count}"]
        # Someone removes one in the UI: named anew at the end, a range from first to last would miss it.
        instance.delete_dynamic_partition(FOLD_PARTITIONS, "fold_02")
        register_folds(instance, 3)
        assert instance.get_dynamic_partitions(FOLD_PARTITIONS) == KEYS
        for key in KEYS:
            instance.delete_dynamic_partition(FOLD_PARTITIONS, key)
    with labelled.entered(), open_instance(labelled.settings, labelled.database()) as instance:
        # as many as the experiment has by default
        assert instance.get_dynamic_partitions(FOLD_PARTITIONS) == [f"fold_0{n}" for n in range(1, 9)]
