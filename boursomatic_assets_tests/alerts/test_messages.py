"""Failures and their messages: step by step, and for any sequence of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.alerts.failures import (
    LONGEST_CAUSE,
    Failure,
    OpenFailure,
    RunOutcome,
    Target,
    advance,
    check_failure,
    error_failure,
    figures_in_words,
)
from boursomatic_assets.alerts.messages import (
    LONGEST_WAIT,
    Kind,
    failure_message,
    recovery_message,
    trial_message,
    wait_before_next,
    webhook_body,
)

UI = "http://ui.example:3000"
NOON = datetime(2024, 6, 10, 12, 0, tzinfo=UTC)
FEATURES, LABELS = Target("features"), Target("labels")
FINITE = Target("features", check="values_are_finite")
DOWN = error_failure([FEATURES], "DatabaseUnreachableError", "no server on port 5432")
INFINITE = check_failure(FINITE, "Every value is finite.", "broken_rows 3")


def ended(*failures: Failure, succeeded: tuple[Target, ...] = (), minutes: int = 0) -> RunOutcome:
    return RunOutcome(
        f"run-{minutes}", "daily_update", NOON + timedelta(minutes=minutes), failures, frozenset(succeeded)
    )


def test_advance_tells_the_same_cause_once_until_it_recovers() -> None:
    first = advance((), ended(DOWN))
    assert first.new == (DOWN,)
    again = advance(first.open_failures, ended(DOWN, minutes=1))
    assert (again.new, again.recovered) == ((), {})
    assert [(failure.times, failure.since) for failure in again.open_failures] == [(2, NOON)]
    over = advance(again.open_failures, ended(succeeded=(FEATURES,), minutes=2))
    assert (over.open_failures, over.new) == ((), ())
    assert [failure.key for failure in over.recovered["features"]] == [DOWN.key]
    assert advance(over.open_failures, ended(DOWN, minutes=3)).new == (DOWN,)


def test_advance_tells_another_cause_and_recovers_both_together() -> None:
    both = advance(advance((), ended(DOWN)).open_failures, ended(INFINITE, succeeded=(FEATURES,), minutes=1))
    assert both.new == (INFINITE,)
    # Stored, then failed its check: no success of the asset counts in that run.
    assert {failure.key: failure.awaiting for failure in both.open_failures} == {
        DOWN.key: {FEATURES},
        INFINITE.key: {FINITE},
    }
    stored = advance(both.open_failures, ended(succeeded=(FEATURES,), minutes=2))
    assert stored.recovered == {}
    over = advance(stored.open_failures, ended(succeeded=(FINITE,), minutes=3))
    assert [failure.key for failure in over.recovered["features"]] == [DOWN.key, INFINITE.key]


def test_advance_recovers_an_asset_beside_a_failure_of_another() -> None:
    down = advance((), ended(DOWN)).open_failures
    other = error_failure([LABELS], "ValueError", "")
    assert set(advance(down, ended(other, succeeded=(FEATURES,))).recovered) == {"features"}
    assert advance(down, ended(succeeded=(LABELS,))).recovered == {}


def test_advance_awaits_every_failed_partition() -> None:
    one, two, three = (Target("walk_forward", f"fold {number}") for number in (1, 2, 3))
    failed = advance((), ended(error_failure([one], "ValueError", "x"))).open_failures
    more = advance(failed, ended(error_failure([two], "ValueError", "x"), succeeded=(three,)))
    assert more.new == ()
    half = advance(more.open_failures, ended(succeeded=(one, three)))
    assert (half.recovered, half.open_failures[0].awaiting) == ({}, {two})
    assert set(advance(half.open_failures, ended(succeeded=(two,))).recovered) == {"walk_forward"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("'FB' has 12 sessions", "'FB' has 13 sessions"),
        ("object at 0x7f3a2b", "object at 0x7FFFFF"),
        ("run 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "run 0b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bee"),
        ("digest 0123456789abcdef", "digest fedcba9876543210"),
        ("two\n  lines", "two lines"),
    ],
)
def test_error_failure_key_ignores_numbers_and_identifiers(one: str, other: str) -> None:
    assert error_failure([FEATURES], "ValueError", one).key == error_failure([FEATURES], "ValueError", other).key


@pytest.mark.parametrize(
    "other",
    [
        error_failure([LABELS], "ValueError", "'FB' is missing"),
        error_failure([FEATURES], "KeyError", "'FB' is missing"),
        error_failure([FEATURES], "ValueError", "'KO' is missing"),
        error_failure([FINITE], "ValueError", "'FB' is missing"),
        check_failure(FINITE, "", "'FB' is missing"),
    ],
)
def test_failure_key_differs_by_asset_kind_and_words(other: Failure) -> None:
    assert other.key != error_failure([FEATURES], "ValueError", "'FB' is missing").key


def test_check_failure_is_the_same_with_any_figures() -> None:
    assert check_failure(FINITE, "", "broken_rows 4").key == INFINITE.key
    assert INFINITE.cause == (
        "the blocking check values_are_finite did not pass (Every value is finite): broken_rows 3"
    )
    assert check_failure(FINITE, "", "").cause == "the blocking check values_are_finite did not pass"


def test_error_failure_names_a_check_and_a_few_assets() -> None:
    broken = error_failure([FINITE], "KeyError", "'close'")
    assert broken.cause == "check values_are_finite could not be evaluated: KeyError: 'close'"
    assert (broken.asset, broken.awaiting) == ("features", {FINITE})
    targets = [Target(name) for name in ("a", "b", "c", "d", "e")]
    assert error_failure(targets, "died", "").asset == "a, b, c, 2 more"
    assert error_failure(targets[:3], "died", "").asset == "a, b, c"
    assert error_failure(targets, "died", "").cause == "died"


def test_failure_message() -> None:
    message = failure_message(DOWN, ended(DOWN), UI)
    assert message.subject == "features failed"
    assert message.text == (
        "features failed on 2024-06-10 at 12:00 UTC, in a run of daily_update.\n"
        "Cause: DatabaseUnreachableError: no server on port 5432\n"
        "Run: http://ui.example:3000/runs/run-0\n"
        "If the same happens again, you are not told again. You are told when features succeeds."
    )
    assert (message.kind, message.key, message.asset) == (Kind.FAILURE, DOWN.key, "features")
    assert message.details == {
        "asset": "features",
        "cause": "DatabaseUnreachableError: no server on port 5432",
        "job": "daily_update",
        "run_id": "run-0",
        "run_url": "http://ui.example:3000/runs/run-0",
        "failed_at": "2024-06-10T12:00:00+00:00",
    }
    again = failure_message(DOWN, RunOutcome("r", "__ASSET_JOB", NOON, (DOWN,), is_tried_again=True), UI).text
    assert "in a run of chosen assets." in again
    assert "Dagster tries the run again by itself." in again


def test_recovery_message() -> None:
    outcome = ended(succeeded=(FEATURES,), minutes=90)
    seen = [
        OpenFailure(DOWN.key, "features", DOWN.cause, NOON, frozenset(), times=2),
        OpenFailure(INFINITE.key, "features", "rows broken", NOON + timedelta(minutes=30), frozenset()),
    ]
    message = recovery_message("features", seen, outcome, UI)
    # Twice and once: three times since the first of them.
    assert message.text == (
        "features succeeded again on 2024-06-10 at 13:30 UTC, in a run of daily_update.\n"
        "It had failed 3 times since 2024-06-10 at 12:00 UTC: DatabaseUnreachableError: no server on port 5432; "
        "rows broken\n"
        "Run: http://ui.example:3000/runs/run-90"
    )
    assert (message.kind, message.subject) == (Kind.RECOVERY, "features succeeded again")
    assert message.details["recovered_at"] == "2024-06-10T13:30:00+00:00"
    assert "failed once since" in recovery_message("features", seen[1:], outcome, UI).text


def test_webhook_body_has_text_for_slack_and_fields_for_programs() -> None:
    failure = error_failure([FEATURES], "ValueError", "<!channel> & 'FB'")
    body = webhook_body(failure_message(failure, ended(failure), UI), "notice-7")
    assert "Cause: ValueError: &lt;!channel&gt; &amp; 'FB'\n" in body["text"]
    assert body["cause"] == "ValueError: <!channel> & 'FB'"
    assert (body["id"], body["kind"], body["run_id"]) == ("notice-7", "failure", "run-0")
    trial = webhook_body(trial_message(NOON, UI), "test")
    assert trial["kind"] == "test"
    assert "sent on 2024-06-10 at 12:00 UTC" in trial["text"]


def test_figures_in_words() -> None:
    figures = {"broken_rows": 3, "symbols": ["AAPL", "KO"], "share": 0.0512345678, "faults": {}, "by": {"KO": 2}}
    assert figures_in_words({**figures, "none": None}) == (
        "broken_rows 3; symbols AAPL, KO; share 0.0512346; by KO: 2"
    )


def test_wait_before_next_doubles_from_half_a_minute_to_an_hour() -> None:
    # 30 s, 1, 2, 4, 8, 16, 32 min; 64 min would be above the hour
    minutes = [wait_before_next(attempt) / timedelta(minutes=1) for attempt in range(1, 10)]
    assert minutes == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert wait_before_next(10**9) == LONGEST_WAIT


@given(st.text())
def test_failure_cause_is_one_short_line_for_any_text(text: str) -> None:
    failure = error_failure([FEATURES], "ValueError", text)
    assert failure.cause.isprintable()
    assert len(failure.cause) <= len("ValueError: ") + LONGEST_CAUSE
    failure.cause.encode()
    assert check_failure(FINITE, "", text).cause.isprintable()
    long = check_failure(FINITE, "", "x" * (LONGEST_CAUSE + 1)).cause
    assert long.endswith("did not pass: " + "x" * (LONGEST_CAUSE - 1) + "\N{HORIZONTAL ELLIPSIS}")


_NAMES = st.sampled_from(["a", "b"])
_TARGETS = st.builds(Target, _NAMES, st.sampled_from(["", "p"]), st.sampled_from(["", "c"]))
_FAILURES = st.one_of(
    st.builds(error_failure, st.lists(_TARGETS, min_size=1, max_size=2), st.sampled_from(["X", "Y"]), st.just("")),
    st.builds(lambda name: check_failure(Target(name, check="c"), "", ""), _NAMES),
)
_OUTCOMES = st.lists(
    st.builds(
        lambda failures, succeeded: ended(*failures, succeeded=tuple(succeeded)),
        st.lists(_FAILURES, max_size=2),
        st.lists(_TARGETS, max_size=4),
    ),
    max_size=12,
)


@given(_OUTCOMES)
def test_advance_tells_and_recovers_each_failure_once_over_any_runs(outcomes: list[RunOutcome]) -> None:
    still: tuple[OpenFailure, ...] = ()
    told: dict[str, set[str]] = {}
    for outcome in outcomes:
        change = advance(still, outcome)
        still = change.open_failures
        for failure in change.new:
            # Never twice without a recovery between.
            assert failure.key not in told.setdefault(failure.asset, set())
            told[failure.asset].add(failure.key)
        for asset, failures in change.recovered.items():
            # All that was told of it, at once, in a run in which nothing of it failed.
            assert {failure.key for failure in failures} == told.pop(asset)
            assert not any(failure.asset == asset for failure in outcome.failures)
        # Open failures are exactly those told and not recovered, with all failures of this run.
        remembered = {failure.key for failure in still}
        assert len(remembered) == len(still)
        assert remembered == {key for keys in told.values() for key in keys}
        assert {failure.key for failure in outcome.failures} <= remembered
        assert all(any(other.awaiting for other in still if other.asset == one.asset) for one in still)


@given(_OUTCOMES)
def test_advance_recovers_everything_by_one_run_that_succeeds(outcomes: list[RunOutcome]) -> None:
    still: tuple[OpenFailure, ...] = ()
    for outcome in outcomes:
        still = advance(still, outcome).open_failures
    everything = tuple(
        Target(name, partition, check) for name in "ab" for partition in ("", "p") for check in ("", "c")
    )
    over = advance(still, ended(succeeded=everything))
    assert over.open_failures == ()
    assert set(over.recovered) == {failure.asset for failure in still}
