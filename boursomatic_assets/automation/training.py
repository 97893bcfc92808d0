"""Whether to train again: asked by the sensor on features, and once a week by a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from boursomatic_assets.automation.observing import (
    CAUSE_TAG,
    WHY_TAG,
    described,
    features_are_behind,
    in_flight,
    newest,
    unmet_check,
)
from boursomatic_assets.core.automation import Decision, Training, TrainingState, matured_since, training_key
from boursomatic_assets.core.experiment import Experiment
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.database import Database
from boursomatic_assets.storage.market_tables import sessions_by_exchange
from boursomatic_assets.storage.model_store import open_bundle
from boursomatic_assets.storage.model_table import active_version, newest_version

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.automation.observing import Made
    from boursomatic_assets.storage.model_table import ModelRow

RETRAIN = "retrain"
# Names the data and the experiment that a run was started for, whoever started it.
TRAINED_ON_TAG = "boursomatic/trained_on"


def observe_training(instance: dg.DagsterInstance, features: Made) -> TrainingState:
    """Look at all that decides whether to train on the newest features."""
    experiment, database = Experiment(), Database.open(Settings.from_environment())
    active, last = active_version(database), newest_version(database, experiment.params_hash)
    training = None if last is None else Training(last.version, _labelled_until(last))
    matured = 0
    if training is not None and training.labelled_until is not None:
        sessions = sessions_by_exchange(database, training.labelled_until)
        matured = len(matured_since(sessions, training.labelled_until, experiment.horizon))
    key = training_key(features.data_version or str(features.number), experiment.params_hash)
    return TrainingState(
        active=None if active is None else active.version,
        newest=training,
        matured=matured,
        key=key,
        started=_started(instance, key),
        obstacle=_obstacle(instance, features),
    )


def training_request(decision: Decision) -> dg.RunRequest:
    """The run that a decision asks for."""
    assert decision.key is not None  # noqa: S101 (only asked where there is one)
    return dg.RunRequest(
        run_key=decision.key,
        tags={CAUSE_TAG: RETRAIN, WHY_TAG: decision.reason, TRAINED_ON_TAG: decision.key},
    )


def _labelled_until(row: ModelRow) -> date | None:
    """Newest labelled session that a version knew; None where its manifest does not say."""
    from datetime import date

    data = open_bundle(row.model_path, row.manifest_sha256).manifest.get("training_data", {})
    session = data.get("test_set", {}).get("last_session")
    return date.fromisoformat(session) if session else None


def _started(instance: dg.DagsterInstance, key: str) -> str | None:
    runs = instance.get_runs(filters=dg.RunsFilter(tags={TRAINED_ON_TAG: key}), limit=1)
    return described(runs[0]) if runs else None


def _obstacle(instance: dg.DagsterInstance, features: Made) -> str | None:
    """Why a training should wait: one at a time, and only on features that follow from the bars stored now."""
    for run in in_flight(instance, "model_version"):
        return f"{described(run)} trains"
    for run in in_flight(instance, "price_bars"):
        return f"{described(run)} brings bars"
    if features_are_behind(newest(instance, "price_bars"), features):
        return "the features are behind the bars"
    return unmet_check(instance, "price_bars", "features")
