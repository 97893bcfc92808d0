"""Delivery with receivers that are down, slow, refuse and come back; eight senders at once; one that is killed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.alerts import sending
from boursomatic_assets.alerts.channels import Channel, LogChannel, MailChannel, WebhookChannel
from boursomatic_assets.alerts.failures import RunOutcome, Target, error_failure
from boursomatic_assets.alerts.outbox import count_waiting, list_notices
from boursomatic_assets.alerts.recording import begin_noticing, record_outcomes
from boursomatic_assets.alerts.sending import deliver_due
from boursomatic_assets.settings import NoticeSettings
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.processes import spawn, wait_until_ready
from boursomatic_assets_tests.support.receivers import WebReceiver, mail_receiver

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

LOGGER = logging.getLogger("tests.notices")
HERE = "instance-1"
SENDING = 600.0


@pytest.fixture
def outbox(database: Database) -> Database:
    begin_noticing(database, HERE, 0)
    return database


def fill(outbox: Database, count: int, channels: tuple[str, ...] = ("webhook",)) -> None:
    failures = tuple(error_failure([Target(f"asset_{number}")], "ValueError", "x") for number in range(count))
    outcome = RunOutcome("r", "daily_update", datetime(2024, 6, 10, tzinfo=UTC), failures)
    record_outcomes(outbox, HERE, [(1, outcome)], channels, "http://ui")


def webhook(receiver: WebReceiver, seconds: float = 5.0) -> WebhookChannel:
    return WebhookChannel(receiver.url, seconds=seconds)


def due_now(outbox: Database) -> None:
    """End the wait before the next attempt."""
    run(outbox, "UPDATE notices SET next_attempt_at = '2020-01-01' WHERE next_attempt_at IS NOT NULL")


def test_deliver_due_delivers_each_message_once_to_a_receiver_that_recovers(
    outbox: Database, web: WebReceiver
) -> None:
    fill(outbox, 3)
    web.status = 500
    assert deliver_due(outbox, [webhook(web)], SENDING).failed == {"webhook": "webhook: answered 500"}
    # After its failure the other two messages are not tried.
    assert len(web.seen) == 1
    due_now(outbox)
    web.status, web.delay = 500, 600.0
    assert "timed out" in deliver_due(outbox, [webhook(web, seconds=0.2)], SENDING).failed["webhook"]
    due_now(outbox)
    down = WebhookChannel("http://127.0.0.1:9/down")
    assert "refused" in deliver_due(outbox, [down], SENDING).failed["webhook"]
    assert (count_waiting(outbox), web.bodies) == (3, [])
    due_now(outbox)
    web.status, web.delay = 200, 0.0
    delivery = deliver_due(outbox, [webhook(web)], SENDING)
    assert (delivery.delivered, delivery.failed) == (3, {})
    assert count_waiting(outbox) == 0
    assert Counter(body["asset"] for body in web.bodies) == {"asset_0": 1, "asset_1": 1, "asset_2": 1}
    assert list_notices(outbox, limit=1)[0].last_error is None
    due_now(outbox)
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 0


def test_deliver_due_sends_others_while_a_refused_message_waits(outbox: Database, web: WebReceiver) -> None:
    fill(outbox, 2)
    web.status = 400
    deliver_due(outbox, [webhook(web)], SENDING)
    web.status = 200
    # The refused one waits; the other one goes.
    deliver_due(outbox, [webhook(web)], SENDING)
    assert [body["asset"] for body in web.bodies] == ["asset_1"]


def test_deliver_due_treats_channels_independently(
    outbox: Database, web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    fill(outbox, 2, ("log", "webhook", "email"))
    web.status = 503
    with mail_receiver() as mail:
        mail.offers_starttls = False
        environment = {
            "BOURSOMATIC_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
            "BOURSOMATIC_NOTICE_TO": "ops@x.org",
        }
        settings = NoticeSettings.from_environment(environment).mail
        assert settings is not None
        channels: list[Channel] = [LogChannel(LOGGER), webhook(web), MailChannel(settings, LOGGER)]
        delivery = deliver_due(outbox, channels, SENDING)
        assert (delivery.delivered, delivery.failed) == (4, {"webhook": "webhook: answered 503"})
        web.status = 200
        due_now(outbox)
        assert deliver_due(outbox, channels, SENDING).delivered == 2
        assert (len(mail.letters), len(web.bodies), len(caplog.records)) == (2, 2, 2)


def test_deliver_due_begins_no_message_after_its_time(
    outbox: Database, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(outbox, 3)
    # At the start, before the first message, and after it.
    moments = iter((1.0, 30.9, 31.0))
    with monkeypatch.context() as patch:
        patch.setattr(sending, "time", SimpleNamespace(monotonic=lambda: next(moments)))
        assert deliver_due(outbox, [webhook(web)], 30.0).delivered == 1
    assert deliver_due(outbox, [webhook(web)], 0.0).delivered == 0


def test_deliver_due_by_eight_senders_delivers_each_message_once(outbox: Database, web: WebReceiver) -> None:
    fill(outbox, 40)
    web.delay = 0.01
    together = threading.Barrier(8)

    def send(_number: int) -> int:
        database = Database(outbox.url)
        together.wait()
        return deliver_due(database, [webhook(web)], SENDING).delivered

    with ThreadPoolExecutor(8) as pool:
        delivered = list(pool.map(send, range(8)))
    assert sum(delivered) == 40
    assert Counter(body["asset"] for body in web.bodies) == {f"asset_{number}": 1 for number in range(40)}
    assert count_waiting(outbox) == 0


def test_record_outcomes_by_eight_at_once_writes_each_message_once(outbox: Database) -> None:
    together = threading.Barrier(8)

    def look(_number: int) -> int:
        database = Database(outbox.url)
        failure = error_failure([Target("features")], "ValueError", "x")
        outcome = RunOutcome("r", "daily_update", datetime(2024, 6, 10, tzinfo=UTC), (failure,))
        together.wait()
        return len(record_outcomes(database, HERE, [(1, outcome)], ["log"], "http://ui"))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(look, range(8))) == [0] * 7 + [1]
    (notice,) = list_notices(outbox, limit=9)
    assert notice.times == 1


def test_deliver_due_after_a_killed_sender_loses_nothing(
    outbox: Database, settings: Settings, web: WebReceiver
) -> None:
    fill(outbox, 1)
    web.status, web.delay = 500, 600.0
    assert settings.database_url is not None
    sender = spawn(
        "from boursomatic_assets.alerts.sending import deliver_due\n"
        "from boursomatic_assets.alerts.channels import WebhookChannel\n"
        "print('ready', flush=True)\n"
        f"deliver_due(Database.open(settings), [WebhookChannel('{web.url}')], 30.0)\n"
    )
    wait_until_ready(sender)
    claimed = "SELECT claimed_until IS NOT NULL FROM notices"
    while not rows(outbox, claimed)[0][0]:
        time.sleep(0.02)
    os.kill(sender.pid, signal.SIGKILL)
    sender.communicate()
    web.status, web.delay = 200, 0.0
    # The claim ends by itself.
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 0
    run(outbox, "UPDATE notices SET claimed_until = timezone('utc', now()) - interval '1 second'")
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 1
    assert [body["asset"] for body in web.bodies] == ["asset_0"]
