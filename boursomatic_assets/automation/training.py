"""What decides on a training, read from the instance and the database; and the request for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import DagsterRunStatus, RunRequest, RunsFilter

from boursomatic_assets.automation.decisions import RunDecision
from boursomatic_assets.automation.observing import (
    date_of,
    described,
    features_are_behind,
    in_flight,
    newest,
    unmet_check,
)
from boursomatic_assets.automation.training_decisions import (
    Calls,
    Drift,
    RecordedTraining,
    TrainingState,
    matured_since,
    training_key,
)
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.dagster.run_tags import CAUSE_TAG, FELL_SHORT_TAG, TRAINED_ON_TAG, WHY_TAG
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.features_table import sessions_by_exchange
from boursomatic_assets.storage.postgres.model_table import active_version, newest_version

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from boursomatic_assets.automation.observing import Materialization
    from boursomatic_assets.storage.postgres.model_table import ModelRow

RETRAIN, DRIFT, SHORTFALL = "retrain", "drift", "shortfall"


def observe_training(instance: DagsterInstance, features: Materialization) -> TrainingState:
    """All facts that decide whether to train on the newest features."""
    experiment, database = Experiment(), Database.open(Settings.from_environment())
    active, last = active_version(database), newest_version(database, experiment.params_hash)
    training = None if last is None else _training(last)
    matured = 0
    if training is not None and training.labelled_until is not None:
        sessions = sessions_by_exchange(database, training.labelled_until)
        matured = len(matured_since(sessions, training.labelled_until, experiment.horizon))
    key = training_key(features.data_version or str(features.number), experiment.params_hash)
    runs = instance.get_runs(filters=RunsFilter(tags={TRAINED_ON_TAG: key}), limit=1)
    return TrainingState(
        active=None if active is None else active.version,
        newest=training,
        matured=matured,
        key=key,
        started=described(runs[0]) if runs else None,
        obstacle=_obstacle(instance, features),
    )


def training_request(decision: RunDecision, cause: str = RETRAIN, fell_short: str | None = None) -> RunRequest:
    """The run that a decision requests."""
    assert decision.key is not None  # noqa: S101 (only asked where there is one)
    about = {FELL_SHORT_TAG: fell_short} if fell_short else {}
    return RunRequest(
        run_key=decision.key,
        tags={CAUSE_TAG: cause, WHY_TAG: decision.reason, TRAINED_ON_TAG: decision.key, **about},
    )


def reported_drift(made: Materialization | None) -> Drift | None:
    """The result of a materialization of `drift`."""
    if made is None:
        return None
    since = date_of(made.values.get("alarmed_since"))
    words = made.values.get("cause" if since is None else "alarm")
    return Drift(str(made.values.get("version")), since, str(words))


def reported_calls(made: Materialization | None) -> Calls | None:
    """The result of a materialization of `outcomes` on the version that was active."""
    if made is None or "falls_short" not in made.values:
        return None
    values = made.values
    return Calls(str(values["version"]), values["falls_short"] is True, str(values["buy_record"]))


def training_started_for(instance: DagsterInstance, version: str) -> str | None:
    """The training started because a version's calls fell short. A failed one does not count."""
    for run in instance.get_runs(filters=RunsFilter(tags={FELL_SHORT_TAG: version})):
        if run.status is not DagsterRunStatus.FAILURE:
            return described(run)
    return None


def _training(row: ModelRow) -> RecordedTraining:
    """What a version knew; unknown if its bundle cannot be read."""
    try:
        manifest = open_bundle(row.model_path, row.manifest_sha256, row.version).manifest
    except (MissingArtifactError, TamperedArtifactError):
        return RecordedTraining(row.version, None)
    tested = manifest.training_data.get("test_set")
    return RecordedTraining(row.version, None if tested is None else tested.last_session, manifest.known_until)


def _obstacle(instance: DagsterInstance, features: Materialization) -> str | None:
    """Why a training should wait: one at a time, and only on features of the stored bars."""
    for run in in_flight(instance, "model_version"):
        return f"{described(run)} trains"
    for run in in_flight(instance, "price_bars"):
        return f"{described(run)} brings bars"
    if features_are_behind(newest(instance, "price_bars"), features):
        return "the features are behind the bars"
    return unmet_check(instance, "price_bars", "features")
