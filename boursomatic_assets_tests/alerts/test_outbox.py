"""The outbox: a run is recorded once, a message is claimed by one sender at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from boursomatic_assets.alerts import recording
from boursomatic_assets.alerts.failures import RunOutcome, Target, check_failure, error_failure
from boursomatic_assets.alerts.messages import Kind
from boursomatic_assets.alerts.outbox import claim, count_waiting, list_notices, mark_delivered, release
from boursomatic_assets.alerts.recording import (
    LATE_EVENTS,
    Noticed,
    begin_noticing,
    noticed_events,
    open_failures,
    record_outcomes,
)
from boursomatic_assets_tests.support.catalog import rows, run

if TYPE_CHECKING:
    from boursomatic_assets.alerts.outbox import Notice
    from boursomatic_assets.storage.postgres.database import Database

NOON = datetime(2024, 6, 10, 12, 0, tzinfo=UTC)
HERE, UI = "instance-1", "http://ui"
FEATURES, LABELS = Target("features"), Target("labels")
DOWN = error_failure([FEATURES], "ConnectionError", "down")
BROKEN = check_failure(Target("labels", check="every_class_occurs"), "", "")
BOTH = ["log", "webhook"]


def failed(*failures: object, run_id: str = "r") -> RunOutcome:
    return RunOutcome(run_id, "daily_update", NOON, failures or (DOWN,))  # type: ignore[arg-type]


def well(*targets: Target) -> RunOutcome:
    return RunOutcome("ok", "daily_update", NOON, (), frozenset(targets))


@pytest.fixture
def outbox(database: Database) -> Database:
    begin_noticing(database, HERE, 100)
    return database


def record(outbox: Database, *ended: tuple[int, RunOutcome], channels: list[str] | None = None) -> list[str]:
    messages = record_outcomes(outbox, HERE, ended, BOTH if channels is None else channels, UI)
    return [f"{message.asset} {message.kind.value}" for message in messages]


def due_now(database: Database) -> None:
    run(database, "UPDATE notices SET next_attempt_at = '2020-01-01' WHERE next_attempt_at IS NOT NULL")


def claimed(outbox: Database, *, ignore_wait: bool = False) -> tuple[Notice, list[str]]:
    found = claim(outbox, BOTH, ignore_wait=ignore_wait)
    assert found is not None
    return found


def taken(database: Database, channels: list[str] | None = None) -> tuple[int, list[str]] | None:
    found = claim(database, BOTH if channels is None else channels)
    return None if found is None else (found[0].id, found[1])


def test_begin_noticing_sets_the_start_once(outbox: Database) -> None:
    begin_noticing(outbox, HERE, 500)
    noticed = noticed_events(outbox, HERE)
    assert noticed == Noticed(100, frozenset())
    assert 100 in noticed
    assert 101 not in noticed
    assert noticed_events(outbox, "another instance") is None
    assert record(outbox, (99, failed())) == []


def test_record_outcomes_counts_a_run_once(outbox: Database) -> None:
    ended = [(101, failed()), (102, failed(run_id="again")), (103, well(FEATURES))]
    assert record(outbox, *ended) == ["features failure", "features recovery"]
    # As by a daemon that died and reads the same runs again.
    assert record(outbox, *ended) == []
    assert [notice.message.kind for notice in list_notices(outbox, limit=9)] == [Kind.RECOVERY, Kind.FAILURE]
    assert open_failures(outbox) == []


def test_record_outcomes_accepts_a_late_event(outbox: Database) -> None:
    assert record(outbox, (110, failed())) == ["features failure"]
    assert record(outbox, (105, failed(BROKEN))) == ["labels failure"]


def test_record_outcomes_deletes_old_events_and_keeps_them_settled(outbox: Database) -> None:
    record(outbox, (101, failed()), (200 + LATE_EVENTS, well(FEATURES)))
    assert rows(outbox, "SELECT event_id FROM noticed_runs") == [(200 + LATE_EVENTS,)]
    assert noticed_events(outbox, HERE) == Noticed(200, frozenset({200 + LATE_EVENTS}))
    assert record(outbox, (101, failed())) == []


def test_open_failures_returns_all_their_fields(outbox: Database) -> None:
    partition = Target("walk_forward", "fold 3")
    record(outbox, (101, failed(error_failure([partition], "ValueError", "x"), BROKEN)), (102, failed(BROKEN)))
    first, second = open_failures(outbox)
    assert (first.asset, first.awaiting, first.times, first.since) == ("walk_forward", {partition}, 1, NOON)
    assert (second.awaiting, second.times, second.cause) == (BROKEN.awaiting, 2, BROKEN.cause)


def test_record_outcomes_is_one_transaction(outbox: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(recording, "_forget", fail)
    with pytest.raises(RuntimeError):
        record(outbox, (101, failed()))
    monkeypatch.undo()
    assert list_notices(outbox, limit=9) == []
    assert record(outbox, (101, failed())) == ["features failure"]


def test_notices_table_allows_one_open_failure_per_key(outbox: Database) -> None:
    record(outbox, (101, failed()))
    with pytest.raises(sa.exc.IntegrityError, match="notices_one_open_failure_by_key"):
        run(
            outbox,
            "INSERT INTO notices (key, kind, asset, subject, text, details, delivered) "
            "SELECT key, kind, asset, subject, text, details, delivered FROM notices",
        )
    with pytest.raises(sa.exc.IntegrityError, match="notices_kind"):
        run(outbox, "UPDATE notices SET kind = 'test'")


def test_claim_holds_a_message_until_release(outbox: Database) -> None:
    record(outbox, (101, failed()))
    notice, channels = claimed(outbox)
    assert (channels, notice.attempts) == (BOTH, 1)
    assert taken(outbox) is None
    mark_delivered(outbox, notice, "log")
    release(outbox, notice, "webhook: answered 500")
    # It waits half a minute after the first failure, and then only for the one that has not taken it.
    (kept,) = list_notices(outbox, limit=9)
    assert (kept.last_error, kept.delivered["webhook"]) == ("webhook: answered 500", None)
    assert kept.delivered["log"] is not None
    waits = "SELECT extract(epoch FROM next_attempt_at - timezone('utc', now()))::float FROM notices"
    ((seconds,),) = rows(outbox, waits)
    assert isinstance(seconds, float)
    assert 25 < seconds <= 30
    assert taken(outbox) is None
    claimed(outbox, ignore_wait=True)


def test_claim_expires(outbox: Database) -> None:
    record(outbox, (101, failed()))
    assert taken(outbox) is not None
    assert taken(outbox) is None
    run(outbox, "UPDATE notices SET claimed_until = timezone('utc', now()) - interval '1 second'")
    assert taken(outbox) is not None


def test_claim_finds_nothing_once_every_channel_has_taken_it(outbox: Database) -> None:
    record(outbox, (101, failed()))
    assert (count_waiting(outbox), len(list_notices(outbox, limit=9, is_waiting=True))) == (1, 1)
    notice, _ = claimed(outbox)
    for channel in BOTH:
        mark_delivered(outbox, notice, channel)
    release(outbox, notice, None)
    assert (count_waiting(outbox), list_notices(outbox, limit=9, is_waiting=True)) == (0, [])
    assert claim(outbox, BOTH, ignore_wait=True) is None


def test_claim_is_for_the_channels_of_a_message(outbox: Database) -> None:
    record(outbox, (101, failed()), channels=["email"])
    # A channel set later gets no earlier message; a message waits for a channel that is not set now.
    assert taken(outbox, BOTH) is None
    assert taken(outbox, []) is None
    assert taken(outbox, ["log", "email"]) == (1, ["email"])


def test_claim_never_gives_a_recovery_before_its_failure(outbox: Database) -> None:
    record(outbox, (101, failed()), (102, failed(BROKEN)), (103, well(FEATURES)))
    first, _ = claimed(outbox)
    mark_delivered(outbox, first, "log")
    release(outbox, first, "webhook: answered 500")
    # The failure waits for the webhook: another asset's message goes, and the recovery only to the log.
    assert taken(outbox) == (2, BOTH)
    recovery, channels = claimed(outbox)
    assert (recovery.message.kind, channels) == (Kind.RECOVERY, ["log"])
    mark_delivered(outbox, recovery, "log")
    release(outbox, recovery, None)
    assert taken(outbox) is None
    due_now(outbox)
    again, channels = claimed(outbox)
    assert (again.id, channels) == (1, ["webhook"])
    mark_delivered(outbox, again, "webhook")
    release(outbox, again, None)
    assert taken(outbox) == (3, ["webhook"])


def test_notice_identity_is_per_message_and_not_per_attempt(outbox: Database) -> None:
    record(outbox, (101, failed()), (102, failed(BROKEN)))
    (one, _), (other, _) = claimed(outbox), claimed(outbox)
    assert one.identity != other.identity
    release(outbox, one, None)
    assert claimed(outbox)[0].identity == one.identity
