from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.display.terminal.trials import other_than_default
from boursomatic_assets_tests.conftest import upgraded
from boursomatic_assets_tests.support.installation import Installation, new_installation

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

# From labels to figures; no version is recorded.
FIGURES = dg.AssetSelection.assets(
    "train_set", "validation_set", "test_set", "classifier", "regressor", "predictions", "threshold", "metrics"
).without_checks()
SMALL = {"classifier": {"n_estimators": 7}}
CLOSING = "tried on overlapping test sessions: the deflated Sharpe ratio counts them all."


def listed(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(installation.run("experiments", "list", "--json").output)
    return found


def test_before_the_first_training_the_list_says_how_to_begin(settings: Settings) -> None:
    upgraded(settings)
    with new_installation(settings.database_url) as empty:
        ended = empty.run("experiments", "list")
        assert (ended.code, ended.said) == (0, "No experiment was tried yet: boursomatic materialize")
        assert listed(empty) == []


def test_every_training_whose_figures_were_seen_is_a_trial_and_the_same_one_again_is_not(
    trained_once: Installation,
) -> None:
    first = trained_once.versions()[-1]
    (only,) = listed(trained_once)
    assert f"1 distinct experiment was {CLOSING}" in trained_once.run("experiments", "list").said
    assert only["params_hash"] == first.params_hash
    # A Sharpe ratio of the ledger is one of a session; the figures' is one of 252.
    assert only["sharpe"] * math.sqrt(252) == pytest.approx(first.metrics["test_sharpe_ratio"], rel=1e-12)
    assert only["accuracy"] == first.metrics["test_accuracy"]
    assert only["matched_lift"] == first.metrics["matched_lift_buy_test"]
    assert (only["symbols"], only["first_session"], only["last_session"]) == (5, "2007-09-10", "2013-03-01")

    assert trained_once.execute(FIGURES, experiment=SMALL).success
    newest, oldest = listed(trained_once)
    assert oldest == only
    assert (newest["experiment"]["classifier"]["n_estimators"], newest["version"]) == (7, None)
    assert newest["data_version"] == only["data_version"]
    ended = trained_once.run("experiments", "list")
    assert "classifier.n_estimators: 7" in ended.said
    assert f"2 distinct experiments were {CLOSING}" in ended.said

    assert trained_once.execute(FIGURES, experiment=SMALL).success
    assert len(listed(trained_once)) == 2
    assert f"2 distinct experiments were {CLOSING}" in trained_once.run("experiments", "list").said


def test_a_trial_names_the_version_that_was_recorded_with_it(trained_once: Installation) -> None:
    versions = {row.params_hash: row.version for row in reversed(trained_once.versions())}
    named = {trial["params_hash"]: trial["version"] for trial in listed(trained_once) if trial["version"]}
    assert named == versions


def test_an_experiment_is_shown_by_what_sets_it_apart() -> None:
    chosen = Experiment.parse({"horizon": 5, "regressor": {"num_leaves": 8}, "features": ["ret_1d", "rsi_14"]})
    values = {**chosen.model_dump(mode="json"), "field_of_another_time": 1}
    assert other_than_default(values) == {
        "features": ["ret_1d", "rsi_14"],
        "horizon": 5,
        "regressor.num_leaves": 8,
    }
    assert other_than_default(Experiment().model_dump(mode="json")) == {}
