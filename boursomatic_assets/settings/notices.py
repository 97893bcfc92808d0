"""Settings of failure notices: the webhook, the mail server, and the secrets that no message may contain."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import dagster_ui, variables
from boursomatic_assets.settings.hiding import secrets_of

if TYPE_CHECKING:
    from boursomatic_assets.settings.variable import Values

# Ports for mail submission, with STARTTLS and with TLS from the start.
SMTP_PORT, SMTPS_PORT = 587, 465


@dataclass(frozen=True)
class MailSettings:
    """How e-mail is submitted, and its receivers. Without a user there is no login.

    Without TLS from the start, STARTTLS protects the connection if the server offers it; a login requires one of
    them.
    """

    host: str
    port: int
    user: str | None
    password: str | None = field(repr=False)
    is_tls_from_start: bool
    sender: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class NoticeSettings:
    """Channels of failure notices, and `secrets`, which no message may contain: those of `settings.variables`.

    Readers of a message reach the Dagster UI at `ui_url`. Anyone who knows the webhook may post there.
    """

    ui_url: str = dagster_ui.DEFAULT_UI_URL
    webhook: str | None = field(default=None, repr=False)
    mail: MailSettings | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls, environ: Values | None = None) -> NoticeSettings:
        """Read the settings from `environ`, by default `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable is invalid, or one needs another that is missing. Secrets are not repeated.
        """
        values = os.environ if environ is None else environ
        return cls(
            webhook=variables.NOTICE_WEBHOOK.find(values),
            mail=_mail(values),
            ui_url=dagster_ui.UI_URL.read(values),
            secrets=secrets_of(values),
        )


def _mail(values: Values) -> MailSettings | None:
    to = variables.NOTICE_TO.find(values) or ()
    url = urlsplit(variables.SMTP_URL.find(values) or "")
    host = url.hostname or variables.SMTP_HOST.find(values)
    if not to and host is None:
        return None
    if not to or host is None:
        message = (
            "e-mail needs a server and a receiver: set BOURSOMATIC_NOTICE_TO and BOURSOMATIC_SMTP_URL, as "
            "smtp://USER:PASSWORD@HOST:PORT or smtps://…; found only one of them"
        )
        raise ConfigurationError(message)
    is_tls = url.scheme == "smtps"
    port = variables.SMTP_PORT.find(values) if url.port is None else url.port
    user = unquote(url.username or "") or variables.SMTP_USER.find(values)
    sender = variables.NOTICE_FROM.find(values) or (user if user and "@" in user else f"boursomatic@{host}")
    for address in (*to, sender):
        # A line break would be one more header.
        if "@" not in address or any(not character.isprintable() for character in address):
            message = f"BOURSOMATIC_NOTICE_TO and BOURSOMATIC_NOTICE_FROM must be addresses; found {address!r}"
            raise ConfigurationError(message)
    password = unquote(url.password or "") or variables.SMTP_PASSWORD.find(values)
    if port is None:
        port = SMTPS_PORT if is_tls else SMTP_PORT
    return MailSettings(host, port, user, password, is_tls, sender, to)
