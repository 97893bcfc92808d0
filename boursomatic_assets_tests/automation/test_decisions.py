"""What is started and why: by hand, and over random sequences of events, lost cursors and ended runs."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.automation.decisions import (
    BarEvent,
    Feed,
    RunDecision,
    changing_events,
    decide_features,
    decide_feed,
    decide_recommendations,
)
from boursomatic_assets.automation.training_decisions import (
    Calls,
    Drift,
    RecordedTraining,
    TrainingState,
    decide_on_calls,
    decide_on_drift,
    decide_training,
    matured_since,
    training_key,
)

MONDAY = date(2024, 6, 3)


def days(count: int, first: date = MONDAY) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]


def event(number: int, version: str, rows: int = 0) -> BarEvent:
    return BarEvent(number, version, rows)


def test_changing_events_are_those_with_another_version_or_with_rows() -> None:
    # A, A again, B, A: the second changes nothing; the last differs from the one before it.
    events = [event(1, "A"), event(2, "A"), event(3, "B"), event(4, "A")]
    assert [one.number for one in changing_events(events, "A")] == [3, 4]
    assert [one.number for one in changing_events(events, None)] == [1, 3, 4]
    assert changing_events([], "A") == []
    assert changing_events([event(1, "A", rows=1)], "A") == [event(1, "A", rows=1)]


ADJUSTED = "price_bars was materialized once with something new: other bars, or another adjustment."


@pytest.mark.parametrize(
    ("events", "computed_from", "obstacle", "expected"),
    [
        # 3 + 2 rows; the event in between changes nothing, and is covered too: the key is that of the last.
        ([event(4, "B", 3), event(5, "B"), event(7, "C", 2)], 3, None,
         RunDecision("price_bars was materialized 2 times with something new: 5 rows.", "bars-7")),
        ([event(4, "B")], None, None, RunDecision(ADJUSTED, "bars-4")),
        ([event(4, "B")], 3, None, RunDecision(ADJUSTED, "bars-4")),
        ([], 3, "never asked", RunDecision("No materialization of price_bars since the last look.")),
        ([event(4, "A"), event(5, "A")], None, "never asked",
         RunDecision("price_bars was materialized 2 times, and nothing in them had changed.")),
        ([event(4, "B", 3)], 4, "never asked",
         RunDecision("price_bars was materialized once; features were computed from them already.")),
        ([event(4, "B", 3)], None, "run 1 brings them",
         RunDecision("New bars wait: run 1 brings them.", settled=False)),
    ],
    ids=["several", "adjustment, no features", "adjustment", "none", "the same bars", "computed", "obstacle"],
)  # fmt: skip
def test_decide_features(
    events: list[BarEvent], computed_from: int | None, obstacle: str | None, expected: RunDecision
) -> None:
    assert decide_features(events, "A", computed_from, obstacle) == expected


@given(st.data())
def test_decide_features_covers_every_event_once_with_any_cursor(data: st.DataObject) -> None:
    events: list[BarEvent] = []
    asked: list[tuple[int, int]] = []
    computed_from, cursor, running, cursors = 0, 0, None, [0]
    steps = st.lists(st.sampled_from(["bring", "repeat", "tick", "restore", "end", "fail"]), max_size=60)
    for step in [*data.draw(steps), "end", "tick", "end", "tick"]:
        number = len(events) + 1
        if step == "bring":
            events.append(event(number, data.draw(st.sampled_from("ABC")), rows=1))
        elif step == "repeat" and events:
            events.append(event(number, str(events[-1].data_version)))
        elif step == "restore":
            cursor = data.draw(st.sampled_from(cursors))
        elif step in {"end", "fail"} and running is not None:
            computed_from, running = (running if step == "end" else computed_from), None
        elif step == "tick":
            # As the sensor does: it goes on after its cursor, or after what a run was started for.
            after = max([cursor, *(until for _, until in asked)])
            new = events[after:]
            before = events[after - 1].data_version if after else None
            decision = decide_features(new, before, computed_from, "a run goes on" if running else None)
            if decision.key is not None:
                asked.append((after, new[-1].number))
                running = len(events)
            if decision.settled and new:
                cursor = new[-1].number
                cursors.append(cursor)
    brought = [one.number for one in changing_events(events, None)]
    times = {number: sum(after < number <= until for after, until in asked) for number in brought}
    # Covered once, or not at all if a run started for an earlier event had read it too.
    assert set(times.values()) <= {0, 1}
    # After the last of them has ended nothing is left behind: covered by a run, or computed from by one.
    assert all(times[number] or number <= computed_from for number in brought)
    # No two runs were started for the same event.
    assert all(until <= after for (_, until), (after, _) in pairwise(asked))


def test_matured_since_lists_sessions_with_a_horizon_after_them() -> None:
    # Of 10 sessions with a horizon of 4 the first 6 have four after them; those up to the second were known.
    sessions = days(10)
    assert matured_since({"US": sessions}, sessions[1], 4) == sessions[2:6]
    assert matured_since({"US": sessions}, None, 4) == sessions[:6]
    assert matured_since({"US": sessions[:4]}, None, 4) == []
    assert matured_since({}, None, 4) == []
    # Horizon 2, and Paris has two more sessions: 3 - 2 = 1 of New York has matured, 5 - 2 = 3 of Paris; each once.
    assert matured_since({"US": sessions[:3], "XPAR": sessions[:5]}, None, 2) == sessions[:3]


@given(st.integers(0, 60), st.integers(1, 30), st.integers(0, 60))
def test_matured_since_counts_sessions_beyond_the_horizon(count: int, horizon: int, known: int) -> None:
    sessions = days(count)
    since = MONDAY + timedelta(days=known - 1)
    assert len(matured_since({"US": sessions}, since, horizon)) == max(count - horizon - known, 0)


def state(
    *,
    active: str | None = "v1",
    newest: RecordedTraining | None = RecordedTraining("v1", MONDAY),  # noqa: B008 (frozen)
    matured: int = 0,
    started: str | None = None,
    obstacle: str | None = None,
) -> TrainingState:
    return TrainingState(active, newest, matured, "key", started, obstacle)


NONE_ACTIVE = "No model version is active."


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (state(active=None, newest=None), RunDecision(NONE_ACTIVE, "key")),
        (state(active=None), RunDecision(NONE_ACTIVE, "key")),
        (state(newest=None), RunDecision("The experiment has changed since version v1 was trained.", "key")),
        (state(newest=RecordedTraining("v2", None)),
         RunDecision("Version v2 does not say which sessions it knew.", "key")),
        # v1, of another experiment, is active; v2 was refused under this one and knew all but three sessions.
        (state(newest=RecordedTraining("v2", MONDAY), matured=3),
         RunDecision("Sessions whose labels have matured since version v2 was trained: 3; enough: 20.")),
        *(
            (state(matured=matured),
             RunDecision("Sessions whose labels have matured since version v1 was trained: "
                         f"{matured}; enough: 20."))
            for matured in (0, 19)
        ),
        *(
            (state(matured=matured),
             RunDecision("Sessions whose labels have matured since version v1, which knew those up to 2024-06-03: "
                         f"{matured}; enough: 20.", "key"))
            for matured in (20, 21)
        ),
        (state(active=None, started="run 1 failure", obstacle="never asked"),
         RunDecision(f"{NONE_ACTIVE} Trained for this data and experiment already: run 1 failure.")),
        (state(active=None, obstacle="run 1 trains"),
         RunDecision(f"{NONE_ACTIVE} It waits: run 1 trains.", settled=False)),
    ],
)  # fmt: skip
def test_decide_training(found: TrainingState, expected: RunDecision) -> None:
    assert decide_training(found, 20) == expected


@given(
    st.builds(
        TrainingState,
        active=st.sampled_from([None, "v1"]),
        newest=st.sampled_from([None, RecordedTraining("v1", MONDAY), RecordedTraining("v1", None)]),
        matured=st.integers(0, 60),
        key=st.just("key"),
        started=st.sampled_from([None, "run 1"]),
        obstacle=st.sampled_from([None, "bars come"]),
    ),
    st.integers(1, 40),
)
def test_decide_training_never_trains_twice_or_despite_an_obstacle(found: TrainingState, enough: int) -> None:
    decision = decide_training(found, enough)
    assert decision.reason
    if decision.key:
        assert decision.settled
        assert found.started is found.obstacle is None
    if not decision.settled:
        assert found.obstacle is not None


KNEW = RecordedTraining("v1", MONDAY, days(30)[-1])
LATER = days(31)[-1]


@pytest.mark.parametrize(
    ("drift", "reason"),
    [
        (None, "Drift has not been computed yet."),
        (Drift("v1", None, "No alarm: calm."), "No alarm: calm."),
        (Drift("v0", LATER, "wild."), "Drift was computed for version v0, which is not the active one."),
        (
            Drift("v1", KNEW.known_until, "wild."),
            "Drift since 2024-07-02: version v1 was trained since then, on sessions up to 2024-07-02.",
        ),
    ],
)
def test_decide_on_drift_without_a_cause(drift: Drift | None, reason: str) -> None:
    assert decide_on_drift(drift, state(newest=KNEW)) == RunDecision(reason)


@pytest.mark.parametrize("newest", [KNEW, RecordedTraining("v1", MONDAY), None])
def test_decide_on_drift_trains_for_an_alarm_that_no_training_has_seen(newest: RecordedTraining | None) -> None:
    told = Drift("v1", LATER, "ret_1d is not what it was.")
    expected = "Drift since 2024-07-03: ret_1d is not what it was."
    assert decide_on_drift(told, state(newest=newest)) == RunDecision(expected, "key")
    waiting = decide_on_drift(told, state(newest=newest, obstacle="run 1 trains"))
    assert waiting == RunDecision(f"{expected} It waits: run 1 trains.", settled=False)
    done = decide_on_drift(told, state(newest=newest, started="run 1 success", obstacle="never asked"))
    assert done == RunDecision(f"{expected} Trained for this data and experiment already: run 1 success.")


@pytest.mark.parametrize(
    ("calls", "tried", "expected"),
    [
        (None, None, RunDecision("Nothing is known yet of how the active version's calls came true.")),
        (Calls("v1", falls_short=False, words="As expected."), None, RunDecision("As expected.")),
        (
            Calls("v0", falls_short=True, words="Too few."),
            None,
            RunDecision("Calls of version v0 fell short, which is not the active one."),
        ),
        (
            Calls("v1", falls_short=True, words="Too few."),
            "run 1 success",
            RunDecision("Too few. A training was started for that: run 1 success."),
        ),
        (Calls("v1", falls_short=True, words="Too few."), None, RunDecision("Too few.", "key")),
    ],
)
def test_decide_on_calls_trains_once_per_version(
    calls: Calls | None, tried: str | None, expected: RunDecision
) -> None:
    assert decide_on_calls(calls, state(), tried) == expected
    waiting = decide_on_calls(calls, state(obstacle="run 1 trains"), tried)
    assert waiting.key is None
    assert waiting.settled == (expected.key is None)


@given(st.data())
def test_decide_on_drift_trains_once_per_alarm_however_long_it_lasts(data: st.DataObject) -> None:
    """Sessions come with and without drift, trainings end when they like, and ticks are repeated or missed."""
    sessions, newest, since, calm = days(200), KNEW, None, 5
    asked: list[date] = []
    running: date | None = None
    for today in sessions[30:]:
        alarmed, steps = data.draw(st.booleans()), data.draw(st.lists(st.sampled_from(["tick", "end"]), max_size=4))
        # As `newest_alarm` has it: what comes within a window of the last alarm belongs to it.
        if alarmed and calm >= 4:
            since = today
        calm = 0 if alarmed else calm + 1
        for step in steps:
            if step == "end" and running is not None:
                newest, running = RecordedTraining("v2", MONDAY, running), None
            found = state(active="v1", newest=newest, obstacle="run 1 trains" if running else None)
            if step == "tick" and decide_on_drift(Drift("v1", since, "wild."), found).key:
                assert since is not None
                asked.append(since)
                running = today
    assert len(set(asked)) == len(asked)
    assert sorted(asked) == asked
    if running is None and since is not None:
        # Whatever is not asked for yet is asked for at the next tick.
        due = decide_on_drift(Drift("v1", since, "wild."), state(newest=newest))
        assert (due.key is None) == (since in asked)


@given(
    st.builds(Drift, st.sampled_from(["v1", "v0"]), st.sampled_from([None, MONDAY, LATER]), st.just("wild.")),
    st.builds(Calls, st.sampled_from(["v1", "v0"]), st.booleans(), st.just("Too few.")),
    st.builds(
        TrainingState,
        active=st.sampled_from([None, "v1"]),
        newest=st.sampled_from([None, KNEW, RecordedTraining("v1", None)]),
        matured=st.just(0),
        key=st.just("key"),
        started=st.sampled_from([None, "run 1"]),
        obstacle=st.sampled_from([None, "bars come"]),
    ),
    st.sampled_from([None, "run 2"]),
)
def test_decide_on_drift_and_calls_never_train_twice_or_despite_an_obstacle(
    drift: Drift, calls: Calls, found: TrainingState, tried: str | None
) -> None:
    for decision in (decide_on_drift(drift, found), decide_on_calls(calls, found, tried)):
        assert decision.reason
        if decision.key:
            assert decision.settled
            assert decision.key == found.key
            assert found.started is found.obstacle is None
            # never about a version that is not active, nor where none is
            assert found.active == "v1"
        if not decision.settled:
            assert found.obstacle is not None


def test_training_key_depends_on_data_and_experiment_alone() -> None:
    keys = {training_key(data * 64, experiment * 64) for data in "ab" for experiment in "cd"}
    assert keys == {f"{data * 16}-{experiment * 16}" for data in "ab" for experiment in "cd"}


@pytest.mark.parametrize(
    ("wanted", "made", "reason", "key"),
    [
        ((None, "f1"), None, "No model version is active.", None),
        (("v1", "f1"), None, "There are no recommendations yet.", "v1-f1-9"),
        (("v1", "f1"), ("v1", "f1"), "Version v1 has already recommended on the newest features.", None),
        (("v2", "f1"), ("v1", "f1"), "Version v2 is active now; the recommendations are of v1.", "v2-f1-9"),
        (("v1", "f2"), ("v1", "f1"), "Features have changed since the recommendations were made.", "v1-f2-9"),
    ],
)
def test_decide_recommendations_follows_the_active_version_and_the_features(
    wanted: tuple[str | None, str], made: tuple[str | None, str | None] | None, reason: str, key: str | None
) -> None:
    assert decide_recommendations(wanted, made, 9, None) == RunDecision(reason, key)
    waiting = decide_recommendations(wanted, made, 9, "a run goes on")
    assert waiting.key is None
    assert waiting.settled == (key is None)


def test_decide_recommendations_for_a_version_that_is_active_again() -> None:
    first = decide_recommendations(("v1", "f1"), ("v0", "f1"), 3, None)
    again = decide_recommendations(("v1", "f1"), ("v2", "f1"), 8, None)
    assert (first.key, again.key) == ("v1-f1-3", "v1-f1-8")


FEED_SESSION = date(2024, 6, 10)


def feed(hours: float, arrived: int = 0, attempts: int = 1, since: float | None = 45.0, **other: str) -> Feed:
    return Feed("us", FEED_SESSION, arrived, 100, 0.98, hours, 8.0, attempts, since, **other)


NONE_YET = "us: 0 of 100 symbols have a bar of 2024-06-10"


@pytest.mark.parametrize(
    ("state", "decision"),
    [
        # 98 of 100 are enough; 97 are not.
        (feed(1.0, 98), RunDecision("us: 98 of 100 symbols have a bar of 2024-06-10.")),
        (
            feed(1.0, 97),
            RunDecision("us: 97 of 100 symbols have a bar of 2024-06-10.", "us-2024-06-10-again-1"),
        ),
        (
            feed(1.0, since=29.9),
            RunDecision(f"{NONE_YET}; the last update was requested 30 minutes ago.", settled=False),
        ),
        (
            feed(0.4, attempts=0, since=None),
            RunDecision(f"{NONE_YET}; the scheduled update after the close has not started yet.", settled=False),
        ),
        (feed(0.5, attempts=0, since=None), RunDecision(f"{NONE_YET}.", "us-2024-06-10-again-0")),
        (feed(7.9, attempts=12), RunDecision(f"{NONE_YET}.", "us-2024-06-10-again-12")),
        (feed(8.0, attempts=12), RunDecision(f"{NONE_YET}; after 8 hours no further update is requested.")),
        # Nobody has asked: the daemon was down.
        (feed(30.0, attempts=0, since=None), RunDecision(f"{NONE_YET}.", "us-2024-06-10-again-0")),
        (
            feed(1.0, obstacle="run 1 is fetching bars"),
            RunDecision(f"{NONE_YET}; run 1 is fetching bars.", settled=False),
        ),
    ],
)
def test_missing_bars_are_asked_for_each_half_hour_until_the_time_is_over(
    state: Feed, decision: RunDecision
) -> None:
    assert decide_feed(state) == decision


@pytest.mark.parametrize(
    ("state", "overdue"),
    [
        (feed(7.9), False),
        (feed(8.0), True),
        (feed(8.0, 98), False),
        # What was asked last still has its time.
        (feed(8.0, since=10.0), False),
        (feed(8.0, obstacle="run 1 is fetching bars"), False),
        (feed(30.0, attempts=0, since=None), False),
    ],
)
def test_a_session_is_overdue_once_the_last_update_has_had_its_time(state: Feed, *, overdue: bool) -> None:
    assert state.is_overdue is overdue
