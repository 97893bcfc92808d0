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
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.alerts.channels import Channel, LogChannel, MailChannel, WebhookChannel
from boursomatic_assets.alerts.failures import RunOutcome, Target, error_failure
from boursomatic_assets.alerts.outbox import count_waiting, list_notices
from boursomatic_assets.alerts.recording import begin_noticing, record_outcomes
from boursomatic_assets.alerts.sending import deliver_due
from boursomatic_assets.settings import NoticeSettings
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.processes import spawn, wait_until_ready
from boursomatic_assets_tests.support.receivers import WebReceiver, mail_receiver, web_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.settings import Settings

LOGGER = logging.getLogger("tests.notices")
HERE = "instance-1"
SENDING = 30.0


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        yield receiver


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
    """Let the wait before the next attempt be over."""
    run(outbox, "UPDATE notices SET next_attempt_at = '2020-01-01' WHERE next_attempt_at IS NOT NULL")


def test_a_receiver_that_fails_in_every_way_and_comes_back_gets_each_message_once(
    outbox: Database, web: WebReceiver
) -> None:
    fill(outbox, 3)
    web.status = 500
    assert deliver_due(outbox, [webhook(web)], SENDING).failed == {"webhook": "webhook: answered 500"}
    # Once it has failed, it is not knocked at for the other two.
    assert len(web.seen) == 1
    due_now(outbox)
    web.status, web.delay = 500, 0.6
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
    # And there it ends.
    due_now(outbox)
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 0


def test_a_message_that_is_refused_does_not_hold_up_the_others(outbox: Database, web: WebReceiver) -> None:
    fill(outbox, 2)
    web.status = 400
    deliver_due(outbox, [webhook(web)], SENDING)
    web.status = 200
    # The refused one waits; the other one goes.
    deliver_due(outbox, [webhook(web)], SENDING)
    assert [body["asset"] for body in web.bodies] == ["asset_1"]


def test_channels_do_not_wait_for_each_other(
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


def test_no_further_message_is_begun_after_the_time_that_is_given(outbox: Database, web: WebReceiver) -> None:
    fill(outbox, 3)
    web.delay = 0.3
    assert deliver_due(outbox, [webhook(web)], 0.2).delivered == 1
    assert deliver_due(outbox, [webhook(web)], 0.0).delivered == 0


def test_eight_senders_at_once_deliver_each_message_once(outbox: Database, web: WebReceiver) -> None:
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


def test_eight_who_look_at_the_same_runs_write_each_message_once(outbox: Database) -> None:
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


def test_a_sender_that_is_killed_while_sending_loses_nothing(
    outbox: Database, settings: Settings, web: WebReceiver
) -> None:
    fill(outbox, 1)
    web.status, web.delay = 500, 5.0
    assert settings.database_url is not None
    sender = spawn(
        "from boursomatic_assets.alerts.sending import deliver_due\n"
        "from boursomatic_assets.alerts.channels import WebhookChannel\n"
        "print('ready', flush=True)\n"
        f"deliver_due(Database.open(settings), [WebhookChannel('{web.url}')], 30.0)\n"
    )
    wait_until_ready(sender)
    claimed = "SELECT claimed_until IS NOT NULL FROM notices"
    while not _is_true(outbox, claimed):
        time.sleep(0.02)
    os.kill(sender.pid, signal.SIGKILL)
    sender.communicate()
    web.status, web.delay = 200, 0.0
    # Its hold on the message ends by itself.
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 0
    run(outbox, "UPDATE notices SET claimed_until = timezone('utc', now()) - interval '1 second'")
    assert deliver_due(outbox, [webhook(web)], SENDING).delivered == 1
    assert [body["asset"] for body in web.bodies] == ["asset_0"]


def _is_true(outbox: Database, query: str) -> bool:
    with outbox.engine.connect() as connection:
        return bool(connection.exec_driver_sql(query).scalar())
