"""The gate with the real daemon, webserver and PostgreSQL: refused, promoted, taken back; all seen from outside."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from benchmarks.product import OFTEN, REPOSITORY
from boursomatic_assets.core.market.calendars import sessions_between
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.storage.postgres.model_events import ModelEvent, list_events
from boursomatic_assets.storage.postgres.model_table import find_version
from boursomatic_assets_tests.conftest import ONE_THREAD
from boursomatic_assets_tests.support.browser import RUN_SECONDS, running_product, wait_until
from boursomatic_assets_tests.support.installation import Installation
from boursomatic_assets_tests.support.stored import overwrite_panel, panel_of

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets_tests.support.browser import Product

# Of five that were tried, the one in which the true labels are worth most beside the noise of a hundred sessions.
MARKET, SEED = SimulatedMarket(symbols=40, sessions=700, signal=1.0), 3
MODELS = ("classifier", "regressor")
JUDGED = (*MODELS, "feature_importance", "predictions", "threshold", "metrics", "model_version")
LAUNCH = """
mutation ($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
NEWEST = """
query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(limit: 1) { runId timestamp metadataEntries {
    label ... on TextMetadataEntry { text } ... on BoolMetadataEntry { boolValue }
    ... on FloatMetadataEntry { floatValue } ... on MarkdownMetadataEntry { mdStr }
  } }
} } }
"""
RECOMMENDING = """{
  runsOrError(filter: {tags: [{key: "boursomatic/cause", value: "recommend"}]}, limit: 1) {
    ... on Runs { results { tags { key value } } }
  }
}"""
RECOMMENDED = (
    "SELECT DISTINCT m.version FROM recommendations r JOIN model_versions m ON m.id = r.model_version_id "
    "WHERE r.is_active"
)


class Story:
    """A running product, what its UI says over GraphQL, and what stands in its database."""

    def __init__(self, product: Product) -> None:
        self.product = product
        url = product.command("db", "url").strip()
        self.installation = Installation(product.home, url)

    def newest(self, asset: str) -> dict[str, Any]:
        """Metadata of an asset's newest materialization, as the UI shows it, and the run it is of."""
        found = self.product.graphql(NEWEST, key={"path": [asset]})["assetOrError"]["assetMaterializations"][0]
        values = {
            entry["label"]: next((value for name, value in entry.items() if name != "label"), None)
            for entry in found["metadataEntries"]
        }
        return {**values, "run": found["runId"]}

    def train(self, *assets: str) -> dict[str, Any]:
        """Launch some assets from the UI's interface; returns what it then shows of the version."""
        selector = {
            **REPOSITORY,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in assets],
        }
        launched = self.product.graphql(LAUNCH, selector=selector)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        self.product.require_success(launched["run"]["runId"])
        shown = self.newest("model_version")
        assert shown["run"] == launched["run"]["runId"]
        return shown

    def active(self) -> str:
        (version,) = self.installation.active()
        return version

    def require_logged(self, what: str, old: str, new: str) -> ModelEvent:
        """The newest line of the log says it, and was written a moment ago."""
        event = list_events(self.installation.database())[-1]
        assert (event.event, event.version_from, event.version_to) == (what, old, new)
        assert event.at is not None
        moment = event.at if event.at.tzinfo else event.at.replace(tzinfo=UTC)
        assert timedelta(0) <= datetime.now(UTC) - moment < timedelta(minutes=5)
        return event

    def wait_for_recommendations_of(self, version: str) -> None:
        """The sensor sees that another version is active; every row is then made with that one."""
        wait_until(
            lambda: self.newest("recommendations")["version"] == version,
            RUN_SECONDS,
            f"recommendations of {version}",
        )
        rows = self.installation.ask(RECOMMENDED)
        assert rows == [(version,)]


def deliver(path: Path) -> None:
    """Simulated prices with a planted signal, on the sessions of a real exchange, as a file to be read."""
    days = sessions_between("XNYS", date(2018, 1, 1), date(2021, 12, 31)).head(MARKET.sessions)
    bars = simulate_bars(MARKET, SEED)
    order = pl.DataFrame({"session": bars["session"].unique().sort(), "traded": days})
    bars.join(order, on="session").drop("session").rename({"traded": "session"}).write_parquet(path)


def shuffled_within_sessions(train: pl.DataFrame) -> pl.DataFrame:
    """Outcomes dealt out anew among the names of each session: what it was like stays, whose it was is lost."""
    random = np.random.default_rng(7)
    ordered = train.sort("session", "symbol")
    places = np.arange(ordered.height)
    dealt = np.lexsort((random.random(ordered.height), ordered["session"].to_physical().to_numpy()))
    assert (dealt != places).mean() > 0.9
    moved = [ordered[name].gather(dealt) for name in ("label", "forward_return")]
    return ordered.with_columns(*moved).sort("symbol", "session")


@pytest.mark.slow
def test_a_worse_version_is_refused_a_better_one_promoted_and_one_command_goes_back(tmp_path: Path) -> None:
    prices = tmp_path / "prices.parquet"
    deliver(prices)
    with running_product({**OFTEN, **ONE_THREAD}) as product:
        select = ("--select", "instruments+", "--to", "recommendations")
        said = product.command("materialize", *select, "--provider", "files", "--path", str(prices))
        story = Story(product)
        first = story.active()
        assert f"Active model version: {first} (before: nothing: it is the first)" in said
        assert story.newest("recommendations")["version"] == first
        honest = panel_of(story.installation, "train_set")

        # The stored training set is exchanged for one with the labels dealt out anew; the graph trains on it.
        overwrite_panel(story.installation, "train_set", shuffled_within_sessions(honest))
        refused = see_it_refused(story, first)
        product.command("models", "activate", refused, "--why", "to see what it does")
        assert story.active() == refused
        story.require_logged("activated", first, refused)

        # The true labels again: better than the active one, and nobody has to do anything.
        overwrite_panel(story.installation, "train_set", honest)
        better = see_it_promoted(story, refused)
        story.wait_for_recommendations_of(better)
        go_back(story, better, refused)
        story.installation.verify()


def see_it_refused(story: Story, champion: str) -> str:
    """Train on what is stored, and find the refusal wherever somebody might look for it."""
    shown = story.train(*JUDGED)
    refused: str = shown["version"]
    assert story.active() == champion != refused
    assert (shown["promoted"], shown["active_version"]) == (False, champion)
    assert shown["gate"].startswith(f"Not promoted, {champion} stays: on the same ")
    assert "its log loss may be" in shown["gate"]
    assert "Rank IC" in shown["gate_figures"]
    assert f"models activate {refused} " in shown["to_activate_it"]
    row = find_version(story.installation.database(), refused)
    assert row is not None
    assert row.gate is not None
    assert (row.gate.promoted, row.gate.champion, row.gate.reason) == (False, champion, shown["gate"])
    event = story.require_logged("refused", champion, refused)
    assert (event.who, event.why, event.figures) == (f"run {shown['run']}", shown["gate"], row.gate.figures)
    page = story.product.command("models", "show", refused)
    assert shown["gate"] in page
    assert f"{refused} refused, {champion} stayed, by run {shown['run']}" in page
    return refused


def see_it_promoted(story: Story, champion: str) -> str:
    """Train on what is stored, and find the new version active."""
    shown = story.train(*JUDGED)
    better: str = shown["version"]
    assert story.active() == better, shown["gate"]
    assert (shown["promoted"], shown["replaces"]) == (True, champion)
    assert shown["log_loss_difference"] < 0
    story.require_logged("activated", champion, better)
    return better


def go_back(story: Story, newest: str, before: str) -> None:
    """One command, and everything follows."""
    why = "the one before was good enough"
    said = story.product.command("models", "rollback", "--why", why)
    assert said.strip() == f"Active model version: {before} (before: {newest})"
    assert story.active() == before
    event = story.require_logged("rolled back", newest, before)
    assert (event.who, event.why) == (f"{getpass.getuser()}@{socket.gethostname()}", why)
    story.wait_for_recommendations_of(before)
    (run,) = story.product.graphql(RECOMMENDING)["runsOrError"]["results"]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert tags["boursomatic/why"] == f"Version {before} is active now; the recommendations are of {newest}."
    assert json.loads(story.product.command("models", "show", "--json"))["version"] == before
