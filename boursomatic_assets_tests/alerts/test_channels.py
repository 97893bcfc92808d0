"""Channels against servers that accept, refuse, answer late or not at all; and secrets that they never repeat."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email import message_from_string, policy
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.alerts import channels as notice_channels
from boursomatic_assets.alerts.channels import LogChannel, MailChannel, WebhookChannel, configured_channels
from boursomatic_assets.alerts.failures import RunOutcome, Target, error_failure
from boursomatic_assets.alerts.messages import Message, failure_message, trial_message
from boursomatic_assets.errors import NotDeliveredError
from boursomatic_assets.settings import NoticeSettings
from boursomatic_assets.settings.hiding import hide
from boursomatic_assets_tests.support.receivers import (
    CERTIFICATE,
    HOST,
    MailReceiver,
    WebReceiver,
    mail_receiver,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGGER = logging.getLogger("tests.notices")
FAILURE = error_failure([Target("features")], "ValueError", "déjà vu")
MESSAGE = failure_message(
    FAILURE, RunOutcome("run-1", "daily_update", datetime(2024, 6, 10, tzinfo=UTC)), "http://ui"
)


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailReceiver]:
    # As an administrator adds an own certificate.
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with mail_receiver() as receiver:
        yield receiver


def webhook(url: str, seconds: float = 5.0) -> WebhookChannel:
    settings = NoticeSettings.from_environment({"BOURSOMATIC_NOTICE_WEBHOOK": url})
    assert settings.webhook is not None
    return WebhookChannel(settings.webhook, settings.secrets, seconds)


def mailer(
    receiver: MailReceiver, login: str = "me%40x.org:hush%20hush@", *, scheme: str = "smtp", to: str = "ops@x.org"
) -> MailChannel:
    settings = NoticeSettings.from_environment(
        {
            "BOURSOMATIC_SMTP_URL": f"{scheme}://{login}localhost:{receiver.port}",
            "BOURSOMATIC_NOTICE_TO": to,
        }
    )
    assert settings.mail is not None
    return MailChannel(settings.mail, LOGGER, settings.secrets, seconds=5.0)


def refused(channel: WebhookChannel | MailChannel, message: Message = MESSAGE) -> str:
    with pytest.raises(NotDeliveredError) as caught:
        channel.send(message, "n-1")
    said = str(caught.value)
    assert "hush" not in said
    assert "hush" not in repr(channel)
    # The original error, which may hold secrets, is not shown.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def test_log_channel_writes_failures_as_errors_and_the_rest_as_information(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    channel = LogChannel(LOGGER)
    channel.send(MESSAGE, "n-1")
    channel.send(trial_message(datetime(2024, 6, 10, tzinfo=UTC), "http://ui"), "n-2")
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.records[0].getMessage() == MESSAGE.text


def test_webhook_channel_posts_json_with_an_idempotency_key(web: WebReceiver) -> None:
    webhook(web.url).send(MESSAGE, "n-1")
    (body,), (headers,) = web.bodies, web.seen
    assert (body["text"], body["cause"], body["id"]) == (MESSAGE.text, "ValueError: déjà vu", "n-1")
    assert (headers["Content-Type"], headers["Idempotency-Key"]) == ("application/json", "n-1")


@pytest.mark.parametrize("status", [201, 204])
def test_webhook_channel_accepts_any_answer_of_success(web: WebReceiver, status: int) -> None:
    web.status = status
    webhook(web.url).send(MESSAGE, "n-1")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_webhook_channel_fails_on_any_other_answer_and_follows_no_redirect(web: WebReceiver, status: int) -> None:
    web.status, web.headers = status, {"Location": web.url}
    assert refused(webhook(web.url)) == f"webhook: answered {status}"
    assert len(web.seen) == 1
    assert web.bodies == []


def test_webhook_channel_fails_if_the_receiver_is_down_slow_or_no_web_server(
    web: WebReceiver, mail: MailReceiver
) -> None:
    path = "services/hush-hush-hush"
    said = refused(webhook(f"http://{HOST}:{free_port()}/{path}"))
    assert said.startswith("webhook: ")
    assert "refused" in said
    assert refused(webhook(f"http://{HOST}:{mail.port}/{path}")).startswith("webhook: ")
    web.delay = 600.0
    assert "timed out" in refused(webhook(web.url, seconds=0.2))


def test_webhook_channel_gives_up_on_a_silent_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice_channels, "ATTEMPT_SECONDS", 0.3)
    with socket.create_server((HOST, 0)) as server:
        # Accepts the connection and stays silent; a single read may last longer than an attempt.
        said = refused(webhook(f"http://{HOST}:{server.getsockname()[1]}/services/hush-hush-hush", seconds=600.0))
        assert said == "webhook: no end after 0.3 s"


def test_webhook_channel_gives_up_on_a_receiver_that_answers_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice_channels, "ATTEMPT_SECONDS", 0.3)
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.05):
                connection.sendall(b"a")

    with socket.create_server((HOST, 0)) as server:
        dripping = threading.Thread(target=drip, args=(server,))
        dripping.start()
        said = refused(webhook(f"http://{HOST}:{server.getsockname()[1]}/services/hush-hush-hush"))
        over.set()
        dripping.join()
    assert said == "webhook: no end after 0.3 s"


def test_webhook_channel_reads_no_body(web: WebReceiver) -> None:
    web.headers = {"Content-Encoding": "gzip", "Content-Length": str(1 << 40)}
    webhook(web.url).send(MESSAGE, "n-1")
    assert len(web.bodies) == 1


@pytest.mark.parametrize("path", ["/n", "/T0/x?k=1"])
def test_webhook_channel_hides_a_short_path_that_the_receiver_repeats(path: str) -> None:
    secrets = NoticeSettings.from_environment({"BOURSOMATIC_NOTICE_WEBHOOK": f"http://{HOST}{path}"}).secrets
    assert hide(f"no {path} here", secrets) == "no *** here"


def test_mail_channel_submits_over_tls_with_a_login(mail: MailReceiver) -> None:
    mailer(mail, to="ops@x.org, night@x.org").send(MESSAGE, "n-1")
    assert mail.logins == [True]
    assert mail.receivers == [["ops@x.org", "night@x.org"]]
    letter = message_from_string(mail.letters[0], policy=policy.default)
    assert letter["Subject"] == "Boursomatic: features failed"
    assert (letter["From"], letter["To"]) == ("me@x.org", "ops@x.org, night@x.org")
    assert letter["Message-ID"] == "<n-1@x.org>"
    assert letter.get_content().splitlines() == MESSAGE.text.splitlines()


def test_mail_channel_can_use_tls_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with mail_receiver(is_tls=True) as receiver:
        mailer(receiver, scheme="smtps").send(MESSAGE, "n-1")
        assert (receiver.logins, len(receiver.letters)) == ([True], 1)


def test_mail_channel_without_a_login_accepts_an_unprotected_server(mail: MailReceiver) -> None:
    mail.offers_starttls = False
    mailer(mail, "").send(MESSAGE, "n-1")
    assert (mail.logins, len(mail.letters)) == ([], 1)


def test_mail_channel_never_sends_a_password_unprotected(mail: MailReceiver) -> None:
    mail.offers_starttls = False
    said = refused(mailer(mail))
    assert said == "email: the server offers no STARTTLS, and the password is not sent unprotected"
    assert (mail.logins, mail.letters) == ([], [])


def test_mail_channel_refuses_an_unknown_certificate() -> None:
    with mail_receiver() as receiver:
        assert "CERTIFICATE_VERIFY_FAILED" in refused(mailer(receiver))
        assert (receiver.logins, receiver.letters) == ([], [])


def test_mail_channel_hides_a_password_that_the_server_repeats(mail: MailReceiver) -> None:
    assert "535" in refused(mailer(mail, "me%40x.org:hush%20hush%20hush@"))


def test_mail_channel_fails_if_the_server_is_down_or_shutting_down(mail: MailReceiver) -> None:
    mail.is_down = True
    assert "421" in refused(mailer(mail))
    mail.port = free_port()
    assert "refused" in refused(mailer(mail))


def test_mail_channel_needs_one_accepted_receiver(mail: MailReceiver, caplog: pytest.LogCaptureFixture) -> None:
    mail.refuses = ("gone@x.org",)
    mailer(mail, to="ops@x.org,gone@x.org").send(MESSAGE, "n-1")
    assert mail.receivers == [["ops@x.org"]]
    assert "not for: gone@x.org" in caplog.text
    assert "550" in refused(mailer(mail, to="gone@x.org"))


def test_configured_channels_are_the_log_and_those_set() -> None:
    assert [channel.name for channel in configured_channels(NoticeSettings(), LOGGER)] == ["log"]
    environment = {
        "BOURSOMATIC_NOTICE_WEBHOOK": "https://hooks.example/services/hush",
        "BOURSOMATIC_SMTP_URL": "smtp://mail.example",
        "BOURSOMATIC_NOTICE_TO": "ops@x.org",
    }
    channels = configured_channels(NoticeSettings.from_environment(environment), LOGGER)
    assert [channel.name for channel in channels] == ["log", "webhook", "email"]
