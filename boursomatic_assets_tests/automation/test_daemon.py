"""The real daemon and webserver, driven from outside: what follows from new bars without a person."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.bar_events import BASE, bar_source, sample_prices, storm_of_bars, wait_until_quiet
from benchmarks.product import OFTEN, RUN_SECONDS, free_port, running_product, wait_until
from benchmarks.silent_receiver import SilentReceiver, webhook_at
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.storage.dagster.run_launcher import WatchedRunLauncher
from boursomatic_assets_tests.conftest import ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.product import Product

pytestmark = pytest.mark.slow

# Sessions that are enough for a training, and events of the storm, of which one in five brings no session.
ENOUGH, EVENTS, RESTARTS = 3, 5, 1
NEWS = EVENTS - 1


@pytest.fixture(scope="module")
def port() -> int:
    """Where messages go, and nobody listens."""
    return free_port()


@pytest.fixture(scope="module")
def product(port: int) -> Iterator[Product]:
    settings = {**webhook_at(port), **OFTEN, **ONE_THREAD, "BOURSOMATIC_RETRAIN_AFTER": str(ENOUGH)}
    with running_product(settings) as running:
        yield running


def test_new_bars_become_recommendations_without_a_person_and_failures_are_told(
    product: Product, port: int
) -> None:
    receiver = SilentReceiver(product, port)
    with bar_source(product, sessions=ENOUGH + NEWS) as source:
        product.wait_for_ticks(1)
        receiver.fail()
        assert product.runs_of_sensors() == []

        # From nothing to recommendations, while the receiver is first down and then there.
        source.bring()
        receiver.wait_until_tried()
        with receiver.listening():
            receiver.wait_for_failure()
            first = product.wait_for_jobs(features_of_new_bars=1, retrain=1, recommend_and_judge=1)
            why = {run.job: run.tags["boursomatic/why"] for run in first}
            assert why["retrain"] == "No model version is active."
            assert why["recommend_and_judge"] == "There are no recommendations yet."

            # As many sessions as are enough: their features, one training, recommendations. Then the same bars
            # again: nothing.
            source.bring(ENOUGH)
            wait_until_quiet(product, time.time())
            runs = product.runs_of_sensors()
            source.bring()
            wait_until_quiet(product, time.time())
            assert [run.run_id for run in product.runs_of_sensors()] == [run.run_id for run in runs]
            receiver.wait_for_recovery()
    assert receiver.found.broken == []
    assert (receiver.found.failures, receiver.found.recoveries) == (1, 1)

    assert {run.status for run in runs} == {"SUCCESS"}
    new = [run for run in runs if run.run_id not in {before.run_id for before in first}]
    counts = Counter(run.job for run in new)
    assert (counts["features_of_new_bars"], counts["retrain"]) == (1, 1)
    why = {run.job: run.tags["boursomatic/why"] for run in new}
    bars = sample_prices(BASE + ENOUGH, NEWS)
    sessions = bars["session"].unique().sort()
    rows = bars.filter(bars["session"] > sessions[BASE - 1]).height
    assert why["features_of_new_bars"] == f"price_bars was materialized once with something new: {rows} rows."
    # Of the 400 sessions before, the newest 20 had no label yet; that of the first of these has become known.
    known = sessions[BASE - 1 - Experiment().horizon]
    assert re.fullmatch(
        f"Sessions whose labels have matured since version [0-9a-f_]+, which knew those up to {known}: "
        rf"{ENOUGH}; enough: {ENOUGH}\.",
        why["retrain"],
    )
    ticks = product.ticks("features_after_new_bars")
    assert any("nothing in them had changed" in str(tick["skipReason"]) for tick in ticks)

    # The gate has decided on both versions, and recommendations are of the one that is active, on the new session.
    trained = sorted((run for run in runs if run.job == "retrain"), key=lambda run: run.started or 0)
    decided = [shown(product, run.run_id, "model_version") for run in trained]
    assert decided[0]["promoted"] is True
    assert decided[1]["gate"]
    # Another session is one reason to recommend, and another active version is a second.
    assert 1 <= counts["recommend_and_judge"] <= 1 + bool(decided[1]["promoted"])
    active = str((decided[1] if decided[1]["promoted"] else decided[0])["version"])
    assert re.search(rf"Active bundle: \S*/{active}\s", product.command("models", "list"))
    newest = max((run for run in new if run.job == "recommend_and_judge"), key=lambda run: run.started or 0)
    assert shown(product, newest.run_id, "recommendations")["version"] == active
    assert str(sessions[-1]) in product.command("recommendations")
    row = json.loads(product.command("models", "show", str(decided[1]["version"]), "--json"))
    assert row["gate"]["reason"] == decided[1]["gate"]
    instance = product.graphql("{ instance { runLauncher { name } } }")["instance"]
    assert instance["runLauncher"]["name"] == WatchedRunLauncher.__name__


def shown(product: Product, run_id: str, asset: str) -> dict[str, object]:
    """What the UI shows of an asset that a run has made."""
    query = """
    query ($id: ID!) { runOrError(runId: $id) { ... on Run { assetMaterializations {
      assetKey { path } metadataEntries { label ... on TextMetadataEntry { text }
      ... on BoolMetadataEntry { boolValue } } } } } }
    """
    made = product.graphql(query, id=run_id)["runOrError"]["assetMaterializations"]
    (entries,) = [one["metadataEntries"] for one in made if one["assetKey"]["path"] == [asset]]
    return {entry["label"]: entry.get("text", entry.get("boolValue")) for entry in entries}


def test_no_bar_event_is_lost_and_no_training_doubled_while_the_daemon_is_killed_again_and_again(
    product: Product,
) -> None:
    # After the test above, which leaves it with an active model, idle.
    before = Counter(run.job for run in product.runs_of_sensors())
    assert before["retrain"] == 2
    with bar_source(product, NEWS, brought=ENOUGH) as source:
        found = storm_of_bars(product, source, EVENTS, RESTARTS, lambda: None)
    assert found.broken == []
    assert (found.events, found.with_news, found.restarts) == (EVENTS, NEWS, RESTARTS)
    assert found.active_counts == {1}
    assert (found.uncovered, found.duplicate_trainings, found.unfinished_runs) == (0, 0, 0)
    assert found.stuck_sensors == []
    # At least one more: four new sessions, three are enough.
    assert found.runs["retrain"] > before["retrain"]


def process_of(product: Product, run_id: str, step: str) -> int | None:
    """The process that executes a run, once it has begun a step; what the log says of it."""
    log = (product.home / "dev.log").read_text()
    found = re.search(rf"{run_id} - (\d+) - {step} - STEP_START", log)
    return int(found[1]) if found else None


def test_a_run_whose_process_is_killed_is_started_again_from_where_it_was(product: Product) -> None:
    prices = product.home / "prices" / "prices.parquet"
    prices.parent.mkdir(exist_ok=True)
    sample_prices(BASE + 1).write_parquet(prices)
    files = {"config": {"provider": "files", "provider_path": str(prices)}}
    run_id = product.launch("whole_graph", {"resources": {"platform": files}})
    process = wait_until(lambda: process_of(product, run_id, "classifier"), RUN_SECONDS, "begin of the training")
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: product.run_status(run_id) == "FAILURE", RUN_SECONDS, "notice of the death")
    (again,) = wait_until(
        lambda: [run for run in product.runs() if run.tags.get("dagster/parent_run_id") == run_id],
        RUN_SECONDS,
        "second attempt",
    )
    product.require_success(again.run_id)
    # What was done before is not done again.
    assert process_of(product, again.run_id, "classifier")
    assert process_of(product, again.run_id, "price_bars") is None
    assert again.tags["dagster/retry_number"] == "1"
    assert product.command("models", "list").count("Active bundle:") == 1
