"""Sensors: react to new bars, new features, another active model, drift, and calls that fall short.

They decide by recorded facts, so that a lost cursor neither misses an event nor starts a run twice. At its first
tick a sensor records the present state and starts nothing.

Why not declarative automation: `AutomationCondition.eager()` starts nothing at its first evaluation, not even for
changes while the daemon was down, and stops after the code was reloaded (dagster issues 33656, 25721). It reacts to
every materialization, and most of these bring nothing new. A model version activated by a command is no
materialization. The reason for a run would be in no tag.
"""

import json

import dagster as dg

from boursomatic_assets.automation.asset_sensors import monitors
from boursomatic_assets.automation.decisions import RunDecision, decide_features, decide_recommendations
from boursomatic_assets.automation.feeds import fetch_late_bars
from boursomatic_assets.automation.jobs import features_of_new_bars, recommend_and_judge, retrain
from boursomatic_assets.automation.observing import (
    WAITING,
    bar_events,
    described,
    failed_check,
    features_are_behind,
    in_flight,
    newest,
    started_for,
)
from boursomatic_assets.automation.training import (
    DRIFT,
    RETRAIN,
    SHORTFALL,
    observe_training,
    reported_calls,
    reported_drift,
    training_request,
    training_started_for,
)
from boursomatic_assets.automation.training_decisions import decide_on_calls, decide_on_drift, decide_training
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.settings import Settings, sensor_seconds, starting_status
from boursomatic_assets.storage.dagster.run_tags import CAUSE_TAG, WHY_TAG
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import active_version

SECONDS = sensor_seconds()
NEW_BARS, RECOMMEND = "new bars", "recommend"
# The newest event that a run was started for, in case the cursor is lost.
BARS_UNTIL_TAG = "boursomatic/bars_until"
FIRST_LOOK = "First look: the present state is recorded, and later changes start runs."


@monitors("price_bars")
@dg.sensor(
    job=features_of_new_bars,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
    description="When price_bars has changed (new sessions, corrected history, an adjustment), computes the "
    "features. The same bars again start nothing. Several updates since the last look share one run.",
)
def features_after_new_bars(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request features once for all changes of `price_bars` since the last look."""
    instance = context.instance
    asked = [int(run.tags[BARS_UNTIL_TAG]) for run in started_for(instance, NEW_BARS)]
    noted = [*asked, *([int(context.cursor)] if context.cursor else [])]
    bars = newest(instance, "price_bars")
    if not noted:
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=str(bars.number if bars else 0))
    after = max(noted)
    events = bar_events(instance, after)
    before, features = newest(instance, "price_bars", before=after + 1), newest(instance, "features")
    decision = decide_features(
        events,
        version_before=before.data_version if before else None,
        computed_from=features.number_of("price_bars") if features else None,
        obstacle=_features_obstacle(instance) if events else None,
    )
    until = str(events[-1].number if events and decision.settled else after)
    return _result(decision, until, {CAUSE_TAG: NEW_BARS, BARS_UNTIL_TAG: until})


def _features_obstacle(instance: dg.DagsterInstance) -> str | None:
    # A run that also trains may be queued for long.
    trains = {run.run_id for run in in_flight(instance, "model_version") if run.status in WAITING}
    for run in in_flight(instance, "features"):
        if run.run_id not in trains:
            return f"{described(run)} will compute them"
    return failed_check(instance, "price_bars")


@monitors("features")
@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
    description="When features are new, trains again if enough labels have matured since the last training "
    "(BOURSOMATIC_RETRAIN_AFTER, 20 sessions), if the experiment has changed, or if no model is active. One "
    "training at a time, one for the same data and experiment, none while features are behind the bars.",
)
def retrain_when_due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request a training if the newest features or another experiment are a cause."""
    instance = context.instance
    features = newest(instance, "features")
    look = {"features": features.number if features else 0, "experiment": Experiment().params_hash}
    if not context.cursor and not started_for(instance, RETRAIN):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    if features is None:
        return dg.SensorResult(skip_reason="There are no features yet.", cursor=json.dumps(look))
    if context.cursor == json.dumps(look):
        return dg.SensorResult(skip_reason="Neither features nor the experiment are new.")
    enough = max(Settings.from_environment().retrain_after, 1)
    decision = decide_training(observe_training(instance, features), enough)
    request = training_request(decision) if decision.key else None
    return dg.SensorResult(
        run_requests=[request] if request else [],
        skip_reason=None if request else decision.reason,
        cursor=json.dumps(look) if decision.settled else context.cursor,
    )


@monitors("drift")
@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
    description="Trains again if the newest sessions no longer look like those before them (drift is beyond its "
    "alarm level), or if the active model's BUY calls come true less often than chance explains (outcomes). Once "
    "for each such event, which the run's tags name. Otherwise as retrain_when_due: one training at a time, one "
    "for the same data and experiment, none while features are behind the bars.",
)
def retrain_when_drifted(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request a training for drift, or for calls that fall short, that no training has seen."""
    instance = context.instance
    drift, outcomes = newest(instance, "drift"), newest(instance, "outcomes")
    look = {"drift": drift.number if drift else 0, "outcomes": outcomes.number if outcomes else 0}
    if not context.cursor and not any(started_for(instance, cause) for cause in (DRIFT, SHORTFALL)):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    features = newest(instance, "features")
    if features is None or (drift is None and outcomes is None):
        return dg.SensorResult(skip_reason="There are neither drift nor outcomes yet.", cursor=json.dumps(look))
    if context.cursor == json.dumps(look):
        return dg.SensorResult(skip_reason="Neither drift nor outcomes are new.")
    state, calls = observe_training(instance, features), reported_calls(outcomes)
    decisions = {
        DRIFT: decide_on_drift(reported_drift(drift), state),
        SHORTFALL: decide_on_calls(calls, state, training_started_for(instance, calls.version) if calls else None),
    }
    due = {cause: decision for cause, decision in decisions.items() if decision.key}
    both = " ".join(decision.reason for decision in (due or decisions).values())
    settled = all(decision.settled for decision in decisions.values())
    if not due:
        return dg.SensorResult(skip_reason=both, cursor=json.dumps(look) if settled else context.cursor)
    fell_short = calls.version if calls and SHORTFALL in due else None
    request = training_request(RunDecision(both, state.key), next(iter(due)), fell_short)
    return dg.SensorResult(run_requests=[request], cursor=json.dumps(look))


@monitors("features")
@dg.sensor(
    job=recommend_and_judge,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus[starting_status()],
    description="When another model version has become active, by a training or by a command, or when features are "
    "new, makes recommendations with the active version, judges those whose horizon has passed, and computes "
    "drift.",
)
def recommend_when_new(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request recommendations of the active version on the newest features, unless they were made."""
    instance = context.instance
    features = newest(instance, "features")
    if features is None:
        return dg.SensorResult(skip_reason="There are no features yet.")
    active = active_version(Database.open(Settings.from_environment()))
    wanted = (active.version if active else None, features.data_version or str(features.number))
    made = newest(instance, "recommendations")
    # `made` detects a rollback to the version of the last tick, after another version made recommendations.
    look = {"model": wanted[0], "features": wanted[1], "made": made.number if made else 0}
    if not context.cursor and not started_for(instance, RECOMMEND):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    if context.cursor == json.dumps(look):
        return dg.SensorResult(skip_reason="Neither the active model version nor the features are new.")
    decision = decide_recommendations(
        wanted,
        made=(str(made.values.get("version")), made.version_of("features")) if made else None,
        number=made.number if made else 0,
        obstacle=_recommendations_obstacle(instance),
    )
    return _result(decision, json.dumps(look) if decision.settled else context.cursor, {CAUSE_TAG: RECOMMEND})


def _recommendations_obstacle(instance: dg.DagsterInstance) -> str | None:
    for run in in_flight(instance, "recommendations"):
        return f"{described(run)} makes recommendations"
    if features_are_behind(newest(instance, "price_bars"), newest(instance, "features")):
        return "the features are behind the bars"
    return failed_check(instance, "price_bars", "features")


def _result(decision: RunDecision, cursor: str | None, tags: dict[str, str]) -> dg.SensorResult:
    if decision.key is None:
        return dg.SensorResult(skip_reason=decision.reason, cursor=cursor)
    request = dg.RunRequest(run_key=decision.key, tags={**tags, WHY_TAG: decision.reason})
    return dg.SensorResult(run_requests=[request], cursor=cursor)


SENSORS = [fetch_late_bars, features_after_new_bars, retrain_when_due, retrain_when_drifted, recommend_when_new]
