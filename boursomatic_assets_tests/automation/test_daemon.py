"""The real daemon and webserver, driven from outside: what follows from new bars without a person."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from boursomatic_assets.automation.sensors import SENSORS
from boursomatic_assets.providers.sample import SampleProvider
from boursomatic_assets.storage.run_launcher import WatchedRunLauncher
from boursomatic_assets_tests.browser import RUN_SECONDS, running_product, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets_tests.browser import Product

LOCATION = "boursomatic_assets.definitions"
TICKS = """
query ($sensor: SensorSelector!) {
  sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { description sensorState { ticks(limit: 20) { tickId status skipReason error { message } } } }
  }
}
"""
LAUNCH = """
mutation ($job: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $job, runConfigData: {}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}
RUNS = "{ runsOrError { ... on Runs { results { runId jobName status tags { key value } } } } }"


class Automation:
    """Runs and ticks of a running product."""

    def __init__(self, product: Product) -> None:
        self.product = product

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The sensor's ticks, the newest first; none failed."""
        selector = {**REPOSITORY, "sensorName": sensor}
        ticks: list[dict[str, Any]] = self.product.graphql(TICKS, sensor=selector)["sensorOrError"]["sensorState"][
            "ticks"
        ]
        assert all(tick["error"] is None for tick in ticks), ticks
        return [tick for tick in ticks if tick["status"] != "STARTED"]

    def wait_for_ticks(self, count: int) -> None:
        """Let every sensor look so many times more."""
        before = {sensor.name: {tick["tickId"] for tick in self.ticks(sensor.name)} for sensor in SENSORS}
        for name, known in before.items():
            wait_until(
                lambda name=name, known=known: len({tick["tickId"] for tick in self.ticks(name)} - known) >= count,
                RUN_SECONDS,
                f"{count} ticks of {name}",
            )

    def runs(self) -> list[dict[str, Any]]:
        """Runs that sensors started, the newest first."""
        found = self.product.graphql(RUNS)["runsOrError"]["results"]
        runs = [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]
        return [run for run in runs if "dagster/sensor_name" in run["tags"]]

    def wait_for(self, **jobs: int) -> list[dict[str, Any]]:
        """Wait until so many runs of each job have ended well; returns all runs of sensors."""

        def ended() -> bool:
            runs = self.runs()
            assert not [run for run in runs if run["status"] in {"FAILURE", "CANCELED"}], self.product.log()
            return Counter(run["jobName"] for run in runs if run["status"] == "SUCCESS") == jobs

        wait_until(
            ended, 2 * RUN_SECONDS, f"end of {jobs}, but of {[(r['jobName'], r['status']) for r in self.runs()]}"
        )
        return self.runs()


def ingest(product: Product, bars: pl.DataFrame, path: Path) -> None:
    """Bring bars in by hand, and nothing else."""
    bars.write_parquet(path)
    select = ("--select", "instruments,price_bars")
    product.command("materialize", *select, "--provider", "files", "--path", str(path))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_new_bars_become_recommendations_without_a_person(tmp_path: Path) -> None:
    prices = tmp_path / "prices.parquet"
    bars = pl.concat([delivery.bars for delivery in SampleProvider().deliveries()])
    newest = bars["session"].max()
    with running_product() as product:
        automation = Automation(product)
        automation.wait_for_ticks(1)
        assert automation.runs() == []

        ingest(product, bars.filter(pl.col("session") < newest), prices)
        runs = automation.wait_for(features_of_new_bars=1, retrain=1, recommend_and_judge=1)
        why = {run["jobName"]: run["tags"]["boursomatic/why"] for run in runs}
        assert why["retrain"] == "No model version is active."
        assert why["recommend_and_judge"] == "There are no recommendations yet."

        # One more session: its features, and recommendations; one session is no cause for a training.
        ingest(product, bars, prices)
        runs = automation.wait_for(features_of_new_bars=2, retrain=1, recommend_and_judge=2)
        last = next(run for run in runs if run["jobName"] == "features_of_new_bars")
        rows = bars.filter(pl.col("session") == newest).height
        expected = f"price_bars was materialized once with something new: {rows} rows."
        assert last["tags"]["boursomatic/why"] == expected
        assert str(newest) in product.command("recommendations")

        # The same bars again: everyone has looked, and nothing is started.
        ingest(product, bars, prices)
        automation.wait_for_ticks(2)
        assert len(automation.runs()) == len(runs)
        assert "nothing in them had changed" in " ".join(
            str(tick["skipReason"]) for tick in automation.ticks("features_after_new_bars")
        )
        instance = product.graphql("{ instance { runLauncher { name } } }")["instance"]
        assert instance["runLauncher"]["name"] == WatchedRunLauncher.__name__


def process_of(product: Product, run_id: str, step: str) -> int | None:
    """The process that executes a run, once it has begun a step; what the log says of it."""
    log = (product.home / "dev.log").read_text()
    found = re.search(rf"{run_id} - (\d+) - {step} - STEP_START", log)
    return int(found[1]) if found else None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_process_is_killed_is_started_again_from_where_it_was() -> None:
    with running_product() as product:
        launched = product.graphql(LAUNCH, job={**REPOSITORY, "jobName": "whole_graph"})["launchRun"]
        run_id = launched["run"]["runId"]
        process = wait_until(
            lambda: process_of(product, run_id, "classifier"), RUN_SECONDS, "begin of the training"
        )
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: product.run_status(run_id) == "FAILURE", RUN_SECONDS, "notice of the death")
        (again,) = wait_until(
            lambda: [found for found in product.run_ids() if found != run_id], RUN_SECONDS, "second attempt"
        )
        product.require_success(again)
        # What was done before is not done again.
        assert process_of(product, again, "classifier")
        assert process_of(product, again, "price_bars") is None
        found = product.graphql(RUNS)["runsOrError"]["results"]
        tags = {tag["key"]: tag["value"] for run in found if run["runId"] == again for tag in run["tags"]}
        assert tags["dagster/parent_run_id"] == run_id
        assert tags["dagster/retry_number"] == "1"
        assert product.command("models", "list").count("Active bundle:") == 1
