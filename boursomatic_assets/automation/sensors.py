"""Sensors: what follows from new bars, new features, another active model and from drift, without a person.

They decide by what is recorded, so that a cursor that is lost or set back neither misses an event nor starts a run
twice; a cursor only spares them looking at the same things again. At its first tick a sensor takes note of what is
there and starts nothing for it.

Why no declarative automation conditions: `AutomationCondition.eager()` starts nothing at its first evaluation, also
for what changed while the daemon was down before it, and has stopped after code was loaded anew (dagster issues
33656, 25721). It goes by "materialized again", where most of these materializations bring nothing; a model version
that is made active by a command is no materialization at all; and why a run was started would stand in no tag.
"""

import json
from collections.abc import Mapping

import dagster as dg

from boursomatic_assets.automation.decisions import Decision, decide_features, decide_recommendations
from boursomatic_assets.automation.feeds import fetch_late_bars
from boursomatic_assets.automation.jobs import features_of_new_bars, recommend_and_judge, retrain
from boursomatic_assets.automation.observing import (
    CAUSE_TAG,
    WAITING,
    WHY_TAG,
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
    calls_told,
    drift_told,
    observe_training,
    training_request,
    tried_for,
)
from boursomatic_assets.automation.training_decisions import decide_on_calls, decide_on_drift, decide_training
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.settings import Settings, sensor_seconds
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import active_version

SECONDS = sensor_seconds()
NEW_BARS, RECOMMEND = "new bars", "recommend"
# The newest event that a run was started for: where to go on, should the cursor be lost.
BARS_UNTIL_TAG = "boursomatic/bars_until"
FIRST_LOOK = "First look: what is there is noted, and from now on whatever comes."


@dg.sensor(
    job=features_of_new_bars,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When price_bars has really brought something (new sessions, corrected history, an adjustment), "
    "computes the features that follow from it. The same bars again start nothing. Several updates that came "
    "meanwhile share one run.",
)
def features_after_new_bars(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Ask for features once for whatever materializations of `price_bars` brought since the last look."""
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
    # One that also trains may wait long for its turn.
    trains = {run.run_id for run in in_flight(instance, "model_version") if run.status in WAITING}
    for run in in_flight(instance, "features"):
        if run.run_id not in trains:
            return f"{described(run)} will compute them"
    return failed_check(instance, "price_bars")


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When features are new, trains again once enough labels have matured since the last training "
    "(BOURSOMATIC_RETRAIN_AFTER, 20 sessions), when the experiment has changed, or when no model is active. One "
    "training at a time, one for the same data and experiment, none while features are behind the bars.",
)
def retrain_when_due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Ask for a training where the newest features, or another experiment, are a cause."""
    instance = context.instance
    features = newest(instance, "features")
    look = {"features": features.number if features else 0, "experiment": Experiment().params_hash}
    if not context.cursor and not started_for(instance, RETRAIN):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    if features is None:
        return dg.SensorResult(skip_reason="There are no features yet.", cursor=json.dumps(look))
    if _same(context.cursor, look):
        return dg.SensorResult(skip_reason="Neither features nor the experiment are new.")
    enough = max(Settings.from_environment().retrain_after, 1)
    decision = decide_training(observe_training(instance, features), enough)
    request = training_request(decision) if decision.key else None
    return dg.SensorResult(
        run_requests=[request] if request else [],
        skip_reason=None if request else decision.reason,
        cursor=json.dumps(look) if decision.settled else context.cursor,
    )


@dg.sensor(
    job=retrain,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When the active model should be trusted less, trains again: where the newest sessions no longer "
    "look like those before them (drift is beyond its alarm level), or where its BUY calls come true less often "
    "than chance explains (outcomes). Once for each such event, which the run's tags name; otherwise as "
    "retrain_when_due: one training at a time, one for the same data and experiment, none while features are "
    "behind the bars.",
)
def retrain_when_drifted(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Ask for a training where drift, or calls that fall short, are a cause that no training has seen."""
    instance = context.instance
    drift, outcomes = newest(instance, "drift"), newest(instance, "outcomes")
    look = {"drift": drift.number if drift else 0, "outcomes": outcomes.number if outcomes else 0}
    if not context.cursor and not any(started_for(instance, cause) for cause in (DRIFT, SHORTFALL)):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    features = newest(instance, "features")
    if features is None or (drift is None and outcomes is None):
        return dg.SensorResult(skip_reason="There are neither drift nor outcomes yet.", cursor=json.dumps(look))
    if _same(context.cursor, look):
        return dg.SensorResult(skip_reason="Neither drift nor outcomes are new.")
    state, calls = observe_training(instance, features), calls_told(outcomes)
    decisions = {
        DRIFT: decide_on_drift(drift_told(drift), state),
        SHORTFALL: decide_on_calls(calls, state, tried_for(instance, calls.version) if calls else None),
    }
    due = {cause: decision for cause, decision in decisions.items() if decision.key}
    both = " ".join(decision.reason for decision in (due or decisions).values())
    settled = all(decision.settled for decision in decisions.values())
    if not due:
        return dg.SensorResult(skip_reason=both, cursor=json.dumps(look) if settled else context.cursor)
    fell_short = calls.version if calls and SHORTFALL in due else None
    request = training_request(Decision(both, state.key), next(iter(due)), fell_short)
    return dg.SensorResult(run_requests=[request], cursor=json.dumps(look))


@dg.sensor(
    job=recommend_and_judge,
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When another model version has become active, by a training or by a command, or when features are "
    "new, makes recommendations with the active version, judges those whose horizon has passed, and looks for "
    "drift.",
)
def recommend_when_new(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Ask for recommendations of the active version on the newest features, where these were not made yet."""
    instance = context.instance
    features = newest(instance, "features")
    if features is None:
        return dg.SensorResult(skip_reason="There are no features yet.")
    active = active_version(Database.open(Settings.from_environment()))
    wanted = (active.version if active else None, features.data_version or str(features.number))
    look = dict(zip(("model", "features"), wanted, strict=True))
    if not context.cursor and not started_for(instance, RECOMMEND):
        return dg.SensorResult(skip_reason=FIRST_LOOK, cursor=json.dumps(look))
    if _same(context.cursor, look):
        return dg.SensorResult(skip_reason="Neither the active model version nor the features are new.")
    made = newest(instance, "recommendations")
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


def _same(cursor: str | None, look: Mapping[str, object]) -> bool:
    return cursor is not None and cursor == json.dumps(look)


def _result(decision: Decision, cursor: str | None, tags: dict[str, str]) -> dg.SensorResult:
    if decision.key is None:
        return dg.SensorResult(skip_reason=decision.reason, cursor=cursor)
    request = dg.RunRequest(run_key=decision.key, tags={**tags, WHY_TAG: decision.reason})
    return dg.SensorResult(run_requests=[request], cursor=cursor)


SENSORS = [fetch_late_bars, features_after_new_bars, retrain_when_due, retrain_when_drifted, recommend_when_new]
