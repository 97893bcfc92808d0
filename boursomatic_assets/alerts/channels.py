"""Channels for messages: the log, a webhook, e-mail.

A channel takes a message or raises `NotDeliveredError`, within a known time. The error names no password and no
secret address.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Protocol

from boursomatic_assets.alerts.messages import Kind, Message, webhook_body
from boursomatic_assets.errors import NotDeliveredError
from boursomatic_assets.settings.hiding import hide

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from boursomatic_assets.settings import MailSettings, NoticeSettings

# Limits for each answer and for a whole attempt.
ANSWER_SECONDS = 10.0
ATTEMPT_SECONDS = 20.0
LOG, WEBHOOK, EMAIL = "log", "webhook", "email"


class Channel(Protocol):
    """One way to deliver messages."""

    @property
    def name(self) -> str:
        """The name in the outbox."""
        ...

    def send(self, message: Message, identity: str) -> None:
        """Deliver a message; `identity` is the same for every attempt.

        Raises
        ------
        NotDeliveredError
            If the receiver did not confirm it.
        """
        ...


def configured_channels(settings: NoticeSettings, logger: logging.Logger) -> list[Channel]:
    """The log, and the channels set in the environment."""
    channels: list[Channel] = [LogChannel(logger)]
    if settings.webhook is not None:
        channels.append(WebhookChannel(settings.webhook, settings.secrets))
    if settings.mail is not None:
        channels.append(MailChannel(settings.mail, logger, settings.secrets))
    return channels


@dataclass(frozen=True)
class LogChannel:
    """Writes messages to a log: Dagster shows it with the sensor's tick, and on the console."""

    logger: logging.Logger
    name: str = LOG

    def send(self, message: Message, identity: str) -> None:  # noqa: ARG002 (as of every channel)
        """Write a failure as an error, all else as information."""
        write = self.logger.error if message.kind is Kind.FAILURE else self.logger.info
        write("%s", message.text)


@dataclass(frozen=True)
class WebhookChannel:
    """Posts messages as JSON: Slack and similar receivers read `text`, programs the other fields.

    The URL is secret: anyone who knows it may post there. `seconds` limits the wait for an answer.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = ANSWER_SECONDS
    name: str = WEBHOOK

    def send(self, message: Message, identity: str) -> None:
        """Post a message; only an answer from 200 to 299 confirms it."""
        _within(lambda: self._post(json.dumps(webhook_body(message, identity)).encode(), identity), self.name)

    def _post(self, body: bytes, identity: str) -> None:
        # The key shows receivers that a message is repeated.
        headers = {"Content-Type": "application/json", "Idempotency-Key": identity, "User-Agent": "boursomatic"}
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 (http or https: settings)
        try:
            # A redirected message would arrive as a request for a page.
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.seconds):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            message = f"webhook: answered {error.code}"
            raise NotDeliveredError(message) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _not_delivered(self.name, reason, self.secrets) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401 (as the base class)
        """Follow no redirect: it is the answer."""
        return


@dataclass(frozen=True)
class MailChannel:
    """Submits messages to a mail server, over TLS if offered. A login requires TLS."""

    mail: MailSettings
    logger: logging.Logger
    secrets: tuple[str, ...] = field(default=(), repr=False)
    seconds: float = ANSWER_SECONDS
    name: str = EMAIL

    def send(self, message: Message, identity: str) -> None:
        """Submit a message for all receivers; the server must accept at least one."""
        _within(lambda: self._hand_in(self._letter(message, identity)), self.name)

    def _letter(self, message: Message, identity: str) -> EmailMessage:
        letter = EmailMessage()
        letter["Subject"] = f"Boursomatic: {' '.join(message.subject.split())}"
        letter["From"], letter["To"] = self.mail.sender, ", ".join(self.mail.to)
        # The same for every attempt, so that a mailbox shows a repeated message once.
        letter["Message-ID"] = f"<{identity}@{self.mail.sender.rpartition('@')[2].rstrip('>')}>"
        # Asks for no automatic replies.
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(message.text)
        return letter

    def _hand_in(self, letter: EmailMessage) -> None:
        try:
            with self._connected() as server:
                refused = server.send_message(letter)
        except NotDeliveredError:
            raise
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise _not_delivered(self.name, error, self.secrets) from None
        if refused:
            # The others have it, and would get it repeatedly if it counted as not delivered.
            self.logger.warning("email: the server took the message, but not for: %s", ", ".join(refused))

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.mail.is_tls_from_start:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.mail.host, self.mail.port, timeout=self.seconds, context=context
            )
        else:
            server = smtplib.SMTP(self.mail.host, self.mail.port, timeout=self.seconds)
        try:
            self._protect(server, context)
        except BaseException:
            server.close()
            raise
        return server

    def _protect(self, server: smtplib.SMTP, context: ssl.SSLContext) -> None:
        server.ehlo()
        is_protected = self.mail.is_tls_from_start
        if not is_protected and server.has_extn("starttls"):
            server.starttls(context=context)
            is_protected = True
        if self.mail.user and self.mail.password:
            if not is_protected:
                message = "email: the server offers no STARTTLS, and the password is not sent unprotected"
                raise NotDeliveredError(message)
            server.login(self.mail.user, self.mail.password)


def _not_delivered(channel: str, reason: object, secrets: tuple[str, ...]) -> NotDeliveredError:
    # A certificate's fault is told in words, a refused connection by the system's.
    words = " ".join(str(reason).split()) or type(reason).__name__
    return NotDeliveredError(f"{channel}: {hide(words, secrets)}")


def _within(attempt: Callable[[], None], channel: str) -> None:
    """Run an attempt in a thread and wait for at most `ATTEMPT_SECONDS`.

    Each answer has its own limit. This one covers slow name resolution and receivers that answer a byte at a time.
    Such a thread ends when its connection does.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            attempt()
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            raised.append(error)

    thread = threading.Thread(target=run, name=f"notice by {channel}", daemon=True)
    thread.start()
    thread.join(ATTEMPT_SECONDS)
    if thread.is_alive():
        message = f"{channel}: no end after {ATTEMPT_SECONDS:g} s"
        raise NotDeliveredError(message)
    if raised:
        raise raised[0]
