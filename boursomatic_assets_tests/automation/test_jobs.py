"""The jobs: what each selects, and the isolated one run for real, each step in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.installation import SECONDS, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets_tests.support.installation import Installation

MARKET_DATA = {"instruments", "price_bars"}
RETRAINED = {
    "features", "labels", "train_set", "validation_set", "test_set", "classifier", "regressor",
    "predictions", "threshold", "metrics", "feature_importance", "model_version",
}  # fmt: skip
JUDGED = {"baselines", "portfolio", "positions", "trades", "evaluation", "report"}
SERVED = {"recommendations", "outcomes", "drift"}
SELECTED = {
    "daily_update": MARKET_DATA | {"features"},
    "features_of_new_bars": {"features"},
    "whole_graph": MARKET_DATA | RETRAINED | JUDGED | SERVED,
    "retrain": RETRAINED,
    "recommend": {"recommendations"},
    "recommend_and_judge": {"recommendations", "outcomes", "drift"},
    "walk_forward_folds": {"walk_forward"},
    "whole_graph_isolated": MARKET_DATA | RETRAINED | JUDGED | SERVED,
}


@pytest.fixture
def installation() -> Iterator[Installation]:
    with new_installation() as made:
        yield made


def test_there_are_nine_jobs_each_with_a_description() -> None:
    # The last one has no assets.
    assert {job.name for job in defs.jobs} == {*SELECTED, "prune_expired"}
    assert all(job.description for job in defs.jobs)


@pytest.mark.parametrize(("name", "assets"), SELECTED.items())
def test_a_job_selects_its_assets_and_all_their_checks(name: str, assets: set[str]) -> None:
    layer = defs.resolve_job_def(name).asset_layer
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in layer.selected_asset_keys} == assets
    checks = {key for key in graph.asset_check_keys if key.asset_key.to_user_string() in assets}
    assert set(layer.asset_graph.asset_check_keys) == checks
    # What the folds are checked for, all together, belongs to their summary.
    assert bool(checks) == (name != "walk_forward_folds")


def test_only_the_job_of_the_folds_has_partitions() -> None:
    partitioned = [name for name in SELECTED if defs.resolve_job_def(name).partitions_def is not None]
    assert partitioned == ["walk_forward_folds"]


def test_runs_stay_in_one_process_unless_isolation_is_asked_for() -> None:
    executors = {name: defs.resolve_job_def(name).executor_def.name for name in SELECTED}
    assert executors == {
        "daily_update": "in_process",
        "features_of_new_bars": "in_process",
        "whole_graph": "in_process",
        "retrain": "in_process",
        "recommend": "in_process",
        "recommend_and_judge": "in_process",
        "walk_forward_folds": "in_process",
        "whole_graph_isolated": "multiprocess",
    }
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"


@pytest.mark.slow
def test_the_isolated_job_gives_each_step_a_process_and_ends_with_an_active_version(
    installation: Installation,
) -> None:
    assert installation.run("db", "upgrade").code == 0
    with installation.entered(), open_instance(installation.settings, installation.database()) as instance:
        # As `dagster` finds the instance: opening it has named it in the environment.
        ended = subprocess.run(
            [
                sys.executable, "-m", "dagster", "job", "execute",
                "-m", "boursomatic_assets.definitions", "-j", "whole_graph_isolated",
            ],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-5000:]
        (run,) = instance.get_runs()
        assert run.job_name == "whole_graph_isolated"
        assert run.status is dg.DagsterRunStatus.SUCCESS
        started = [
            record.event_log_entry.dagster_event
            for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START).records
        ]
    steps = {node.name for node in defs.resolve_job_def("whole_graph_isolated").nodes}
    assert {event.step_key for event in started} == steps
    assert len({event.pid for event in started}) == len(steps)
    installation.verify()
    assert len(installation.versions()) == 1
