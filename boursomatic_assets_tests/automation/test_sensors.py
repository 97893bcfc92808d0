"""The sensors on a real instance: what starts a run, what does not, and storms in which cursors are set back."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from boursomatic_assets.automation.schedules import weekly_retrain
from boursomatic_assets.automation.sensors import (
    SENSORS,
    features_after_new_bars,
    recommend_when_new,
    retrain_when_drifted,
    retrain_when_due,
)
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.postgres.model_table import active_version

if TYPE_CHECKING:
    from boursomatic_assets_tests.automation.conftest import Bench

FIRST = "First look: the present state is recorded, and later changes start runs."
MONDAY = date(2024, 1, 1)
HORIZON = Experiment().horizon


def days(first: int, count: int) -> list[date]:
    return [MONDAY + timedelta(days=number) for number in range(first, first + count)]


def test_each_has_its_job_and_says_what_it_does() -> None:
    jobs = {sensor.name: sensor.job_name for sensor in SENSORS}
    assert jobs == {
        "fetch_late_bars": "daily_update",
        "features_after_new_bars": "features_of_new_bars",
        "retrain_when_due": "retrain",
        "retrain_when_drifted": "retrain",
        "recommend_when_new": "recommend_and_judge",
    }
    assert [sensor.name for sensor in defs.sensors or []] == [*jobs, "failure_notices"]
    for sensor in SENSORS:
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
        assert len(str(sensor.description)) > 100


def test_asset_sensors_name_the_asset_that_they_monitor() -> None:
    monitored = {
        sensor.name: sensor.asset_key.to_user_string()
        for sensor in defs.get_repository_def().sensor_defs
        if isinstance(sensor, dg.AssetSensorDefinition)
    }
    assert monitored == {
        "features_after_new_bars": "price_bars",
        "retrain_when_due": "features",
        "retrain_when_drifted": "drift",
        "recommend_when_new": "features",
    }


# Features of new bars.


def test_history_starts_nothing_and_the_next_bars_do(bench: Bench) -> None:
    bench.bring("A", 1000)
    assert bench.skipped(features_after_new_bars) == FIRST
    assert "no materialization" in bench.skipped(features_after_new_bars).lower()
    number = bench.bring("B", 3)
    request = bench.requested(features_after_new_bars)
    assert request.run_key == f"bars-{number}"
    assert request.tags["boursomatic/why"] == "price_bars was materialized once with something new: 3 rows."


def test_the_very_first_bars_of_an_empty_instance_are_news(bench: Bench) -> None:
    assert bench.skipped(features_after_new_bars) == FIRST
    bench.bring("A", 1000)
    assert bench.requested(features_after_new_bars)


def test_the_same_bars_again_start_nothing_and_those_that_come_back_do(bench: Bench) -> None:
    bench.bring("A", 3)
    bench.tick(features_after_new_bars)
    bench.bring("A")
    assert "nothing in them had changed" in bench.skipped(features_after_new_bars)
    keys = []
    for version in ("B", "A"):
        bench.bring(version, 1)
        request = bench.requested(features_after_new_bars)
        bench.finish(bench.launch(request, "features_of_new_bars", "features"), {"features": f"of {version}"})
        keys.append(request.run_key)
    assert len(set(keys)) == 2


def test_bars_of_a_run_that_computes_features_itself_start_nothing(bench: Bench) -> None:
    bench.tick(features_after_new_bars)
    update = bench.launch(dg.RunRequest(), "daily_update", "price_bars", "features")
    # Its bars are there, its features not yet; somebody else brings more.
    bench.bring("A", 3)
    assert f"run {update[:8]} (daily_update) not started will compute" in bench.skipped(features_after_new_bars)
    bench.finish(update, {"price_bars": "B", "features": "of B"}, rows_inserted=2)
    assert "computed from them already" in bench.skipped(features_after_new_bars)
    assert "No materialization" in bench.skipped(features_after_new_bars)


def test_bars_that_come_while_features_are_computed_wait_for_the_next_run(bench: Bench) -> None:
    bench.tick(features_after_new_bars)
    bench.bring("A", 3)
    first = bench.launch(bench.requested(features_after_new_bars), "features_of_new_bars", "features")
    for version in "BCD":
        bench.bring(version, 1)
        assert "New bars wait: run" in bench.skipped(features_after_new_bars)
    # It reads what is there when it begins: A to D.
    bench.finish(first, {"features": "of D"})
    assert "computed from them already" in bench.skipped(features_after_new_bars)


def test_bars_do_not_wait_for_a_training_in_the_queue(bench: Bench) -> None:
    bench.tick(features_after_new_bars)
    bench.launch(dg.RunRequest(), "retrain", "features", "model_version")
    bench.bring("A", 3)
    assert bench.requested(features_after_new_bars)


def test_bars_that_failed_a_check_wait_until_it_passes(bench: Bench) -> None:
    bench.tick(features_after_new_bars)
    bench.bring("A", 3)
    bench.judge("price_bars", fails="stored_bars_keep_the_contract")
    assert "stored_bars_keep_the_contract failed" in bench.skipped(features_after_new_bars)
    bench.judge("price_bars")
    assert bench.requested(features_after_new_bars)


def test_a_cursor_that_is_lost_or_set_back_asks_for_nothing_twice(bench: Bench) -> None:
    bench.tick(features_after_new_bars)
    start = bench.cursors["features_after_new_bars"]
    bench.bring("A", 3)
    run_id = bench.launch(bench.requested(features_after_new_bars), "features_of_new_bars", "features")
    # It failed: what it was started for was tried, and somebody was told.
    bench.instance.report_run_failed(bench.started("new bars")[0])
    for cursor in (None, start):
        bench.cursors["features_after_new_bars"] = cursor
        assert "No materialization" in bench.skipped(features_after_new_bars)
    bench.cursors["features_after_new_bars"] = None
    number = bench.bring("B", 3)
    assert bench.requested(features_after_new_bars).tags["boursomatic/bars_until"] == str(number)
    assert [run.run_id for run in bench.started("new bars")] == [run_id]


# Training.


def ready(bench: Bench, version: str = "f1", *, bars: str = "A") -> None:
    """Bars, their features, and checks that all passed."""
    bench.make({"price_bars": bars, "features": version})
    bench.judge("price_bars", "features")


def test_history_trains_nothing_and_the_next_features_do_where_no_version_is_active(bench: Bench) -> None:
    assert bench.skipped(retrain_when_due) == FIRST
    assert "no features" in bench.skipped(retrain_when_due)
    ready(bench)
    request = bench.requested(retrain_when_due)
    assert request.tags["boursomatic/why"] == "No model version is active."
    assert request.run_key == request.tags["boursomatic/trained_on"] == f"f1-{Experiment().params_hash[:16]}"
    assert "Neither features nor the experiment" in bench.skipped(retrain_when_due)


@pytest.mark.parametrize(("fresh", "due"), [(39, False), (40, True)])
def test_twenty_sessions_beyond_the_horizon_are_a_cause(bench: Bench, fresh: int, *, due: bool) -> None:
    # Known up to the 10th: of the later ones the last 20 have no label yet, so 40 - 20 = 20 have matured.
    known = days(0, 10)
    bench.trade([*known, *days(10, fresh)])
    version = bench.train(known[-1])
    bench.tick(retrain_when_due)
    ready(bench)
    if due:
        reason = f"Sessions whose labels have matured since version {version}, which knew those up to {known[-1]}: "
        assert bench.requested(retrain_when_due).tags["boursomatic/why"] == f"{reason}20; enough: 20."
    else:
        assert (
            bench.skipped(retrain_when_due)
            == f"Sessions whose labels have matured since version {version} was trained: 19; enough: 20."
        )


def test_how_many_are_enough_is_a_setting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.trade(days(0, HORIZON + 3))
    bench.train(MONDAY)
    monkeypatch.setenv("BOURSOMATIC_RETRAIN_AFTER", "2")
    bench.tick(retrain_when_due)
    ready(bench)
    # HORIZON + 2 sessions after the first, of which 2 have matured.
    assert bench.requested(retrain_when_due)


def test_another_experiment_is_a_cause_once(bench: Bench) -> None:
    old = bench.train(MONDAY, Experiment(seed=1))
    bench.tick(retrain_when_due)
    ready(bench)
    request = bench.requested(retrain_when_due)
    assert request.tags["boursomatic/why"] == f"The experiment has changed since version {old} was trained."
    run_id = bench.launch(request, "retrain", "features", "model_version")
    bench.train(MONDAY)
    bench.finish(run_id, {"features": "f1", "model_version": "m1"})
    bench.judge("features")
    # Refused by whoever judges it: the old one is active again, and is not replaced day after day.
    bench.activate(old)
    for version in ("f2", "f3"):
        ready(bench, version)
        assert bench.skipped(retrain_when_due).endswith("was trained: 0; enough: 20.")


def test_no_training_on_features_that_are_behind_or_not_vouched_for(bench: Bench) -> None:
    bench.tick(retrain_when_due)
    ready(bench)
    bench.bring("B", 3)
    bench.judge("price_bars", "features")
    assert "the features are behind the bars" in bench.skipped(retrain_when_due)
    bench.make({"features": "f2"})
    assert "was materialized last" in bench.skipped(retrain_when_due)
    bench.judge("features", fails="values_are_possible")
    assert "values_are_possible failed" in bench.skipped(retrain_when_due)
    bench.judge("features")
    assert bench.requested(retrain_when_due).run_key.startswith("f2-")


def test_the_same_bars_materialized_again_leave_features_as_good_as_they_were(bench: Bench) -> None:
    bench.tick(retrain_when_due)
    ready(bench)
    bench.bring("A")
    bench.judge("price_bars", "features")
    assert bench.requested(retrain_when_due)


def test_one_training_at_a_time_whoever_started_it(bench: Bench) -> None:
    bench.tick(retrain_when_due)
    ready(bench)
    for job, assets in {"whole_graph": ("model_version",), "daily_update": ("price_bars", "features")}.items():
        run_id = bench.launch(dg.RunRequest(), job, *assets)
        assert f"It waits: run {run_id[:8]} ({job})" in bench.skipped(retrain_when_due)
        failed = bench.instance.get_run_by_id(run_id)
        assert failed is not None
        bench.instance.report_run_failed(failed)
    assert bench.requested(retrain_when_due)


def test_never_two_for_the_same_data_and_experiment(bench: Bench) -> None:
    bench.tick(retrain_when_due)
    ready(bench)
    run_id = bench.launch(bench.requested(retrain_when_due), "retrain", "features", "model_version")
    bench.instance.report_run_failed(bench.started("retrain")[0])
    for cursor in (None, '{"features": 1, "experiment": "another"}'):
        bench.cursors["retrain_when_due"] = cursor
        assert f"Trained for this data and experiment already: run {run_id[:8]}" in bench.skipped(retrain_when_due)
    # The schedule asks the same.
    assert "already" in str(saturday(bench))
    # Other data may succeed where this failed.
    ready(bench, "f2")
    assert bench.requested(retrain_when_due)


def saturday(bench: Bench) -> dg.RunRequest | str:
    moment = datetime(2024, 6, 8, 6, tzinfo=UTC)
    context = dg.build_schedule_context(instance=bench.instance, scheduled_execution_time=moment)
    tick = weekly_retrain.evaluate_tick(context)
    return tick.run_requests[0] if tick.run_requests else str(tick.skip_message)


def test_once_a_week_one_matured_session_is_enough(bench: Bench) -> None:
    assert saturday(bench) == "There are no features yet."
    version = bench.train(MONDAY)
    bench.trade(days(0, HORIZON + 1))
    ready(bench)
    # The one that has matured is the first, which was known.
    none = f"Sessions whose labels have matured since version {version} was trained: 0; enough: 1."
    assert saturday(bench) == none
    bench.trade(days(HORIZON + 1, 1))
    request = saturday(bench)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["boursomatic/cause"] == "retrain"
    assert request.tags["boursomatic/why"].endswith(": 1; enough: 1.")


# Distrust.

ALARM = "ret_1d is not what it was in the sessions before: instruments spread wider (spread 0.9, alarm from 0.4)."
SHORT = "BUY calls of version {} came true less often than expected: 20.0 % where 50.0 % were expected."


def drifts(bench: Bench, version: str, since: date | None) -> None:
    """Materialize `drift`, with or without an alarm."""
    alarm = {} if since is None else {"alarmed_since": str(since), "alarm": ALARM}
    bench.make({"drift": "d"}, version=version, cause="No alarm: calm.", **alarm)


def judged(bench: Bench, version: str, *, falls_short: bool) -> None:
    """Materialize `outcomes`, with calls of a version that fall short or do not."""
    words = SHORT.format(version) if falls_short else "As expected."
    bench.make({"outcomes": "o"}, version=version, falls_short=falls_short, buy_record=words)


def own_tags(request: dg.RunRequest) -> dict[str, str]:
    return {name: value for name, value in request.tags.items() if name.startswith("boursomatic/")}


def trusted(bench: Bench) -> str:
    """A version that knew ten sessions; later ones have come, and nothing speaks against it."""
    bench.trade(days(0, 15))
    version = bench.train(MONDAY, known=days(0, 10)[-1])
    ready(bench)
    assert bench.skipped(retrain_when_drifted) == FIRST
    return version


def test_drift_that_the_training_has_not_seen_trains_once_and_says_why(bench: Bench) -> None:
    version = trusted(bench)
    assert bench.skipped(retrain_when_drifted) == "There are neither drift nor outcomes yet."
    drifts(bench, version, None)
    calm = "No alarm: calm. Nothing is known yet of how the active version's calls came true."
    assert bench.skipped(retrain_when_drifted) == calm
    assert bench.skipped(retrain_when_drifted) == "Neither drift nor outcomes are new."
    # It began while the version was trained on it.
    drifts(bench, version, days(0, 10)[-1])
    assert f"version {version} was trained since then" in bench.skipped(retrain_when_drifted)
    since = days(12, 1)[0]
    drifts(bench, version, since)
    request = bench.requested(retrain_when_drifted)
    assert own_tags(request) == {
        "boursomatic/cause": "drift",
        "boursomatic/why": f"Drift since {since}: {ALARM}",
        "boursomatic/trained_on": str(request.run_key),
    }
    assert request.run_key == f"f1-{Experiment().params_hash[:16]}"
    assert bench.skipped(retrain_when_drifted) == "Neither drift nor outcomes are new."


def test_an_alarm_that_goes_on_is_one_cause_with_whatever_cursor(bench: Bench) -> None:
    version, since = trusted(bench), days(12, 1)[0]
    drifts(bench, version, since)
    run_id = bench.launch(bench.requested(retrain_when_drifted), "retrain", "features", "model_version")
    for cursor in (None, "{}", '{"drift": 0, "outcomes": 0}'):
        bench.cursors["retrain_when_drifted"] = cursor
        for _ in range(2):
            assert not isinstance(bench.tick(retrain_when_drifted), dg.RunRequest)
    # The same alarm the day after, on other data, while the training goes on, and when it has ended.
    ready(bench, "f2")
    drifts(bench, version, since)
    assert f"It waits: run {run_id[:8]} (retrain) not started trains" in bench.skipped(retrain_when_drifted)
    second = bench.train(MONDAY, known=days(0, 15)[-1])
    bench.finish(run_id, {"features": "f2", "model_version": "m2"})
    bench.judge("features")
    assert "which is not the active one" in bench.skipped(retrain_when_drifted)
    # Refused or not, the training has seen it.
    for active in (second, version):
        bench.activate(active)
        drifts(bench, active, since)
        assert f"version {second} was trained since then" in bench.skipped(retrain_when_drifted)
    # Something else, after that training.
    ready(bench, "f3")
    drifts(bench, version, days(20, 1)[0])
    assert bench.requested(retrain_when_drifted).run_key.startswith("f3-")


def test_a_training_that_failed_is_tried_again_on_other_data_only(bench: Bench) -> None:
    version = trusted(bench)
    drifts(bench, version, days(12, 1)[0])
    run_id = bench.launch(bench.requested(retrain_when_drifted), "retrain", "features", "model_version")
    bench.instance.report_run_failed(bench.started("drift")[0])
    drifts(bench, version, days(12, 1)[0])
    assert f"Trained for this data and experiment already: run {run_id[:8]}" in bench.skipped(retrain_when_drifted)
    ready(bench, "f2")
    drifts(bench, version, days(12, 1)[0])
    assert bench.requested(retrain_when_drifted)


def test_whichever_sensor_comes_first_trains_on_that_data(bench: Bench) -> None:
    version = trusted(bench)
    bench.trade(days(15, HORIZON + 20))
    for first, second in ((retrain_when_due, retrain_when_drifted), (retrain_when_drifted, retrain_when_due)):
        bench.cursors = {sensor.name: "{}" for sensor in (first, second)}
        ready(bench, "f1" if first is retrain_when_due else "f2")
        drifts(bench, version, days(12, 1)[0])
        run_id = bench.launch(bench.requested(first), "retrain", "features", "model_version")
        found = bench.skipped(second)
        assert f"Trained for this data and experiment already: run {run_id[:8]}" in found
        started = bench.instance.get_run_by_id(run_id)
        assert started is not None
        bench.instance.report_run_failed(started)


def test_no_training_of_drift_on_features_that_are_behind_or_not_vouched_for(bench: Bench) -> None:
    version = trusted(bench)
    drifts(bench, version, days(12, 1)[0])
    bench.bring("B", 3)
    assert "It waits: the features are behind the bars." in bench.skipped(retrain_when_drifted)
    bench.make({"features": "f2"})
    bench.judge("price_bars", "features", fails="values_are_possible")
    assert "values_are_possible failed" in bench.skipped(retrain_when_drifted)
    bench.judge("price_bars", "features")
    assert bench.requested(retrain_when_drifted).run_key.startswith("f2-")


def test_calls_that_fall_short_train_once_for_a_version(bench: Bench) -> None:
    version = trusted(bench)
    judged(bench, version, falls_short=False)
    assert bench.skipped(retrain_when_drifted) == "Drift has not been computed yet. As expected."
    judged(bench, version, falls_short=True)
    request = bench.requested(retrain_when_drifted)
    assert own_tags(request) == {
        "boursomatic/cause": "shortfall",
        "boursomatic/why": SHORT.format(version),
        "boursomatic/trained_on": str(request.run_key),
        "boursomatic/fell_short": version,
    }
    run_id = bench.launch(request, "retrain", "features", "model_version")
    second = bench.train(MONDAY, known=days(0, 15)[-1])
    bench.finish(run_id, {"features": "f2", "model_version": "m2"})
    bench.judge("features")
    # Refused: the first stays, and still falls short, day after day, with whatever cursor.
    bench.activate(version)
    for cursor in (bench.cursors["retrain_when_drifted"], None, "{}"):
        ready(bench, "f3")
        judged(bench, version, falls_short=True)
        bench.cursors["retrain_when_drifted"] = cursor
        assert f"A training was started for that: run {run_id[:8]}" in bench.skipped(retrain_when_drifted)
    # Of another version that is active it is another cause; of one that is not, none.
    judged(bench, second, falls_short=True)
    assert "fell short, which is not the active one" in bench.skipped(retrain_when_drifted)
    bench.activate(second)
    judged(bench, second, falls_short=True)
    assert bench.requested(retrain_when_drifted).tags["boursomatic/fell_short"] == second


def test_a_training_for_calls_that_fell_short_is_tried_again_where_it_failed(bench: Bench) -> None:
    version = trusted(bench)
    judged(bench, version, falls_short=True)
    bench.launch(bench.requested(retrain_when_drifted), "retrain", "features", "model_version")
    bench.instance.report_run_failed(bench.started("shortfall")[0])
    ready(bench, "f2")
    judged(bench, version, falls_short=True)
    assert bench.requested(retrain_when_drifted)


def test_both_causes_are_one_training(bench: Bench) -> None:
    version, since = trusted(bench), days(12, 1)[0]
    drifts(bench, version, since)
    judged(bench, version, falls_short=True)
    tags = bench.requested(retrain_when_drifted).tags
    assert tags["boursomatic/why"] == f"Drift since {since}: {ALARM} {SHORT.format(version)}"
    assert (tags["boursomatic/cause"], tags["boursomatic/fell_short"]) == ("drift", version)


def test_nobody_is_distrusted_where_nobody_is_active(bench: Bench) -> None:
    assert bench.skipped(retrain_when_drifted) == FIRST
    ready(bench)
    # As outcomes are recorded where no version is active.
    bench.make({"outcomes": "o"}, still_open=0)
    assert "Nothing is known yet" in bench.skipped(retrain_when_drifted)
    drifts(bench, "v1", MONDAY)
    assert "which is not the active one" in bench.skipped(retrain_when_drifted)


def test_a_version_whose_bundle_is_gone_stops_no_sensor(bench: Bench) -> None:
    version = bench.train(MONDAY)
    bench.tick(retrain_when_due)
    shutil.rmtree(bench.artifacts / "models" / version)
    ready(bench)
    request = bench.requested(retrain_when_due)
    assert request.tags["boursomatic/why"] == f"Version {version} does not say which sessions it knew."


# Recommendations.


def recommended(bench: Bench, request: dg.RunRequest, version: str) -> None:
    run_id = bench.launch(request, "recommend_and_judge", "recommendations")
    bench.finish(run_id, {"recommendations": f"by {version}"}, version=version)


def test_recommendations_follow_promotions_sessions_and_rollbacks(bench: Bench) -> None:
    assert "no features" in bench.skipped(recommend_when_new)
    ready(bench)
    assert bench.skipped(recommend_when_new) == FIRST
    first = bench.train(MONDAY)
    keys = []
    request = bench.requested(recommend_when_new)
    keys.append(request.run_key)
    assert request.tags["boursomatic/why"] == "There are no recommendations yet."
    recommended(bench, request, first)

    ready(bench, "f2", bars="B")
    request = bench.requested(recommend_when_new)
    keys.append(request.run_key)
    assert request.tags["boursomatic/why"] == "Features have changed since the recommendations were made."
    recommended(bench, request, first)
    # The same again.
    ready(bench, "f2", bars="B")
    assert f"Version {first} has already recommended on" in bench.skipped(recommend_when_new)
    assert "Neither" in bench.skipped(recommend_when_new)

    second = bench.train(MONDAY)
    for active, before in ((second, first), (first, second), (second, first)):
        bench.activate(active)
        request = bench.requested(recommend_when_new)
        keys.append(request.run_key)
        expected = f"Version {active} is active now; the recommendations are of {before}."
        assert request.tags["boursomatic/why"] == expected
        recommended(bench, request, active)
    assert len(set(keys)) == len(keys) == 5
    # Nobody asks again, with whatever cursor.
    for cursor in (None, "{}"):
        bench.cursors["recommend_when_new"] = cursor
        assert f"Version {second} has already recommended on" in bench.skipped(recommend_when_new)


def test_recommendations_follow_a_rollback_though_no_look_saw_the_version_between(bench: Bench) -> None:
    ready(bench)
    assert bench.skipped(recommend_when_new) == FIRST
    first = bench.train(MONDAY)
    request = bench.requested(recommend_when_new)
    # Before that run reads the active version another one is promoted; it is taken back before the next look.
    second = bench.train(MONDAY)
    recommended(bench, request, second)
    bench.activate(first)
    again = bench.requested(recommend_when_new)
    assert again.tags["boursomatic/why"] == f"Version {first} is active now; the recommendations are of {second}."
    assert again.run_key != request.run_key


def test_recommendations_wait_for_what_would_make_them_old_at_once(bench: Bench) -> None:
    ready(bench)
    bench.tick(recommend_when_new)
    bench.train(MONDAY)
    graph = bench.launch(dg.RunRequest(), "whole_graph", "recommendations")
    assert f"run {graph[:8]} (whole_graph)" in bench.skipped(recommend_when_new)
    bench.instance.report_run_canceled(bench.instance.get_run_by_id(graph))  # type: ignore[arg-type]
    bench.bring("B", 1)
    assert "the features are behind the bars" in bench.skipped(recommend_when_new)
    bench.make({"features": "f2"})
    bench.judge("features", fails="values_are_possible")
    assert "values_are_possible failed" in bench.skipped(recommend_when_new)
    bench.judge("features")
    assert bench.requested(recommend_when_new)


# A storm.


class Storm:
    """Bars that come when they like, runs that end when they like, and a daemon that forgets what it had seen."""

    JOBS = {  # noqa: RUF012 (never changed)
        features_after_new_bars: ("features_of_new_bars", ("features",)),
        retrain_when_due: ("retrain", ("features", "model_version")),
    }

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.chance = bench, random.Random(seed)  # noqa: S311 (no secret)
        self.sessions, self.trainings = 10, 0
        self.brought: list[int] = []
        self.under_way: dict[str, str] = {}
        self.seen: dict[str, list[str | None]] = {sensor.name: [None] for sensor in self.JOBS}
        bench.trade(days(0, self.sessions))
        bench.train(days(0, self.sessions)[-1])
        for sensor in self.JOBS:
            assert bench.skipped(sensor) == FIRST

    def bring(self) -> None:
        """One more session."""
        self.bench.trade(days(self.sessions, 1))
        self.sessions += 1
        self.brought.append(self.bench.bring(f"bars {self.sessions}", 1))

    def forget(self) -> None:
        """Go back to what was saved at some time, or to nothing."""
        for name, cursors in self.seen.items():
            self.bench.cursors[name] = self.chance.choice(cursors)

    def tick(self) -> None:
        for sensor, (job, assets) in self.JOBS.items():
            found = self.bench.tick(sensor)
            self.seen[sensor.name].append(self.bench.cursors.get(sensor.name))
            if isinstance(found, dg.RunRequest):
                assert sensor.name not in self.under_way
                self.under_way[sensor.name] = self.bench.launch(found, job, *assets)

    def end(self, share: float) -> None:
        """Let a share of the runs under way end."""
        for name in [name for name in self.under_way if self.chance.random() < share]:
            versions = {"features": f"of {self.sessions}"}
            if name != features_after_new_bars.name:
                # All but the last 20 sessions have labels.
                known = days(0, self.sessions)
                self.bench.train(known[-HORIZON - 1], known=known[-1])
                self.trainings += 1
                versions["model_version"] = str(self.trainings)
            self.bench.finish(self.under_way.pop(name), versions)
            self.bench.judge("price_bars", "features")


class Distrust(Storm):
    """The same, with an event of drift every ten sessions, of which each materialization of `drift` tells."""

    JOBS = {**Storm.JOBS, retrain_when_drifted: ("retrain", ("features", "model_version"))}  # noqa: RUF012 (never changed)
    EVERY = 10

    def tick(self) -> None:
        super().tick()
        trainings = [name for name in self.under_way if name != features_after_new_bars.name]
        assert len(trainings) <= 1

    def look(self) -> None:
        """Materialize `drift`."""
        active = active_version(self.bench.database)
        assert active is not None
        begun = (self.sessions - 1) // self.EVERY * self.EVERY
        drifts(self.bench, active.version, days(begun, 1)[0] if begun > self.EVERY else None)


@pytest.mark.slow
def test_bars_and_drift_with_cursors_set_back_are_followed_once_each(bench: Bench) -> None:
    storm = Distrust(bench, seed=2)
    forgetful = set(storm.chance.sample(range(30), 6))
    for number in range(30):
        storm.bring()
        if number in forgetful:
            storm.forget()
        storm.tick()
        storm.end(share=0.7)
        storm.look()
        storm.tick()
    for _ in range(3):
        storm.end(share=1.0)
        storm.look()
        storm.tick()
    assert not storm.under_way

    # Every event was read by a run, and no two runs were started for the same ones.
    (newest,) = bench.instance.fetch_materializations(dg.AssetKey("features"), limit=1).records
    assert newest.asset_materialization is not None
    pointer = (newest.asset_materialization.tags or {})["dagster/input_event_pointer/price_bars"]
    assert (len(storm.brought), int(pointer)) == (30, storm.brought[-1])
    until = [run.tags["boursomatic/bars_until"] for run in bench.started("new bars")]
    assert len(set(until)) == len(until)
    asked = [run.tags["boursomatic/why"].partition(":")[0] for run in bench.started("drift")]
    assert len(set(asked)) == len(asked)
    # 40 sessions: events began on the 21st and the 31st. Other trainings may have seen one.
    events = [f"Drift since {day}" for day in days(20, 20)[::10]]
    assert set(asked) <= set(events)
    assert len(asked) >= len(events) - len(bench.started("retrain"))
    keys = [run.tags["boursomatic/trained_on"] for cause in ("drift", "retrain") for run in bench.started(cause)]
    assert len(set(keys)) == len(keys) == storm.trainings
