"""Settings of failure notices: the webhook, the mail server, and the secrets that no message may contain."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import variables
from boursomatic_assets.settings.variable import Secret

if TYPE_CHECKING:
    from boursomatic_assets.settings.variable import Values

# Ports for mail submission, with STARTTLS and with TLS from the start.
SMTP_PORT, SMTPS_PORT = 587, 465
# A shorter path, such as /notices, may be a word of other texts.
_SHORTEST_SECRET_PATH = 16


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

    ui_url: str = variables.DEFAULT_UI_URL
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
            ui_url=variables.UI_URL.read(values),
            secrets=tuple(sorted(_secrets(values))),
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


def _secrets(values: Values) -> set[str]:
    """All secrets, also as they are written within an address."""
    secrets: set[str | None] = set()
    for variable in variables.VARIABLES:
        if variable.secret is not Secret.NONE:
            text = values.get(variable.name, "")
            secrets |= _address_secrets(text, is_path_secret=variable is variables.NOTICE_WEBHOOK)
            secrets |= {text} if variable.secret is Secret.WHOLE else set()
    return {secret for secret in secrets if secret}


def _address_secrets(text: str, *, is_path_secret: bool) -> set[str | None]:
    try:
        url = urlsplit(text)
    except ValueError:
        return set()
    secrets = {url.password, unquote(url.password or "")}
    # A refusing receiver may repeat path and query, the secret part of a webhook's address.
    resource = url.path + (f"?{url.query}" if url.query else "")
    if is_path_secret and len(resource) >= _SHORTEST_SECRET_PATH:
        secrets.add(resource)
    return secrets
