"""The environment as typed settings, read when asked for and not at import.

Only `sensor_seconds` is asked for as the code location is loaded: Dagster wants it there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PROVIDER = "sample"
DEFAULT_MAX_REJECTED_SHARE = 0.01
DEFAULT_MIN_ARRIVED_SHARE = 0.98
DEFAULT_OVERLAP_SESSIONS = 5
DEFAULT_UI_URL = "http://127.0.0.1:3000"
# The ports for handing in mail: protected once connected, and protected from the first byte.
SMTP_PORT, SMTPS_PORT = 587, 465
# A short path, such as /notices, is a word of other texts too.
_SHORTEST_SECRET_PATH = 16
DEFAULT_RETRAIN_AFTER = 20
DEFAULT_SENSOR_SECONDS = 15


@dataclass(frozen=True)
class Settings:
    """Where things are and which source feeds them.

    Attributes
    ----------
    home : Path
        `BOURSOMATIC_HOME`: holds `postgres/`, `artifacts/` and `dagster/`.
    database_url : str or None
        `DATABASE_URL`: a PostgreSQL server; None means the embedded one under `home`. Kept out of
        `repr`, since it may hold a password.
    artifacts_dir : str
        `ARTIFACTS_DIR`: a folder or any fsspec URL.
    provider : str
        `BOURSOMATIC_PROVIDER`: name of the price source.
    provider_path : str or None
        `BOURSOMATIC_PROVIDER_PATH`: file or folder for providers that read one.
    max_rejected_share : float
        `BOURSOMATIC_MAX_REJECTED_SHARE`: the share of bars, as a fraction, that may break the contract.
    threads : int
        `BOURSOMATIC_THREADS`: threads for training; 0 means all cores. Never changes a result.
    universe : str or None
        `BOURSOMATIC_UNIVERSE`: CSV with the instruments to follow; None means `universe.csv` under `home`, or the
        shipped list where there is none.
    min_arrived_share : float
        `BOURSOMATIC_MIN_ARRIVED_SHARE`: share of the universe, as a fraction, whose bars must arrive.
    overlap_sessions : int
        `BOURSOMATIC_OVERLAP_SESSIONS`: stored sessions that are fetched again each time, to notice that a source
        has rewritten its history.
    gateway : str or None
        `BOURSOMATIC_GATEWAY`: an address through which network sources are reached: `https://HOST/PATH` becomes
        `GATEWAY/HOST/PATH`.
    exchanges : tuple of str
        `BOURSOMATIC_EXCHANGES`: calendars whose instruments network sources are asked for; empty means all.
    stooq_key : str or None
        `BOURSOMATIC_STOOQ_KEY`: API key for Stooq, where it asks for one. Kept out of `repr`.
    retrain_after : int
        `BOURSOMATIC_RETRAIN_AFTER`: sessions whose labels must have matured since the last training before the next
        is started by itself.
    requests_per_second : float or None
        `BOURSOMATIC_REQUESTS_PER_SECOND`: rate limit for each network source; None means the source's own.
    """

    home: Path
    database_url: str | None = field(repr=False)
    artifacts_dir: str
    provider: str
    provider_path: str | None
    max_rejected_share: float
    threads: int
    universe: str | None = None
    min_arrived_share: float = DEFAULT_MIN_ARRIVED_SHARE
    overlap_sessions: int = DEFAULT_OVERLAP_SESSIONS
    retrain_after: int = DEFAULT_RETRAIN_AFTER
    gateway: str | None = None
    requests_per_second: float | None = None
    exchanges: tuple[str, ...] = ()
    stooq_key: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Parameters
        ----------
        environ : mapping of str to str, optional
            Stands in for `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable cannot be read as its type.
        """
        values = os.environ if environ is None else environ
        home = _folder("BOURSOMATIC_HOME", values.get("BOURSOMATIC_HOME") or "~/.boursomatic")
        return cls(
            home=home,
            database_url=values.get("DATABASE_URL") or None,
            artifacts_dir=_place(values.get("ARTIFACTS_DIR") or str(home / "artifacts")),
            provider=values.get("BOURSOMATIC_PROVIDER") or DEFAULT_PROVIDER,
            provider_path=values.get("BOURSOMATIC_PROVIDER_PATH") or None,
            max_rejected_share=_share(values, "BOURSOMATIC_MAX_REJECTED_SHARE", DEFAULT_MAX_REJECTED_SHARE),
            threads=_count(values, "BOURSOMATIC_THREADS", meaning="0 for all cores", default=0),
            universe=values.get("BOURSOMATIC_UNIVERSE") or None,
            min_arrived_share=_share(values, "BOURSOMATIC_MIN_ARRIVED_SHARE", DEFAULT_MIN_ARRIVED_SHARE),
            overlap_sessions=_count(
                values, "BOURSOMATIC_OVERLAP_SESSIONS", meaning="of sessions", default=DEFAULT_OVERLAP_SESSIONS
            ),
            retrain_after=_count(
                values, "BOURSOMATIC_RETRAIN_AFTER", meaning="of sessions", default=DEFAULT_RETRAIN_AFTER
            ),
            gateway=_address(values, "BOURSOMATIC_GATEWAY"),
            requests_per_second=_rate(values, "BOURSOMATIC_REQUESTS_PER_SECOND"),
            stooq_key=values.get("BOURSOMATIC_STOOQ_KEY") or None,
            exchanges=tuple(filter(None, values.get("BOURSOMATIC_EXCHANGES", "").replace(" ", "").split(","))),
        )


@dataclass(frozen=True)
class MailSettings:
    """How e-mail is handed in, and to whom it goes.

    Attributes
    ----------
    host : str
    port : int
    user : str or None
        None: the server is not logged in to.
    password : str or None
        Kept out of `repr`.
    is_tls_from_start : bool
        Else the connection is protected by STARTTLS where the server offers it; without that nobody logs in.
    sender : str
    to : tuple of str
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
    """Where messages about failures go.

    Attributes
    ----------
    ui_url : str
        `BOURSOMATIC_UI_URL`: the Dagster UI as readers of a message reach it, for links.
    webhook : str or None
        `BOURSOMATIC_NOTICE_WEBHOOK`: address that takes JSON, such as a Slack webhook. Kept out of `repr`: who
        knows it may write there.
    mail : MailSettings or None
        `BOURSOMATIC_NOTICE_TO`, addresses separated by commas, and `BOURSOMATIC_SMTP_URL`, as
        `smtp://USER:PASSWORD@HOST:PORT` or `smtps://…`, or its parts `BOURSOMATIC_SMTP_HOST`, `_PORT`, `_USER` and
        `_PASSWORD`. `BOURSOMATIC_NOTICE_FROM` names the sender.
    secrets : tuple of str
        What must not be in any message: these passwords and addresses, that of the database, and keys of sources.
        Kept out of `repr`.
    """

    ui_url: str = DEFAULT_UI_URL
    webhook: str | None = field(default=None, repr=False)
    mail: MailSettings | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> NoticeSettings:
        """Read the settings.

        Parameters
        ----------
        environ : mapping of str to str, optional
            Stands in for `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable cannot be used, or one is missing beside another. Secrets are not repeated.
        """
        values = os.environ if environ is None else environ
        webhook = values.get("BOURSOMATIC_NOTICE_WEBHOOK") or None
        if webhook is not None and not _is_web_address(webhook):
            message = "BOURSOMATIC_NOTICE_WEBHOOK must be an http:// or https:// address; what is there is none"
            raise ConfigurationError(message)
        mail = _mail(values)
        return cls(
            ui_url=_address(values, "BOURSOMATIC_UI_URL") or DEFAULT_UI_URL,
            webhook=webhook,
            mail=mail,
            secrets=tuple(sorted(_secrets(values, mail))),
        )


def _mail(values: Mapping[str, str]) -> MailSettings | None:
    to = tuple(filter(None, (part.strip() for part in values.get("BOURSOMATIC_NOTICE_TO", "").split(","))))
    url = _smtp_url(values.get("BOURSOMATIC_SMTP_URL", ""))
    host = url.hostname or values.get("BOURSOMATIC_SMTP_HOST") or None
    if not to and host is None:
        return None
    if not to or host is None:
        message = (
            "e-mail needs a server and a receiver: set BOURSOMATIC_NOTICE_TO and BOURSOMATIC_SMTP_URL, as "
            "smtp://USER:PASSWORD@HOST:PORT or smtps://…; found only one of them"
        )
        raise ConfigurationError(message)
    is_tls = url.scheme == "smtps"
    port = url.port or _count(
        values, "BOURSOMATIC_SMTP_PORT", meaning="a port", default=SMTPS_PORT if is_tls else SMTP_PORT
    )
    user = unquote(url.username or "") or values.get("BOURSOMATIC_SMTP_USER") or None
    sender = values.get("BOURSOMATIC_NOTICE_FROM") or (user if user and "@" in user else f"boursomatic@{host}")
    for address in (*to, sender):
        # A line break would be one more header.
        if "@" not in address or any(not character.isprintable() for character in address):
            message = f"BOURSOMATIC_NOTICE_TO and BOURSOMATIC_NOTICE_FROM must be addresses; found {address!r}"
            raise ConfigurationError(message)
    password = unquote(url.password or "") or values.get("BOURSOMATIC_SMTP_PASSWORD") or None
    return MailSettings(host, port, user, password, is_tls, sender, to)


def _smtp_url(text: str) -> SplitResult:
    message = (
        "BOURSOMATIC_SMTP_URL must be smtp://USER:PASSWORD@HOST:PORT or smtps://…, with special characters of user "
        "and password as %XX; what is there is not"
    )
    try:
        url = urlsplit(text)
        is_usable = url.port != 0
    except ValueError:
        is_usable = False
    # What was found may hold the password: it is not repeated.
    if not is_usable or (text and (url.scheme not in {"smtp", "smtps"} or not url.hostname)):
        raise ConfigurationError(message) from None
    return url


def _is_web_address(text: str) -> bool:
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and url.scheme in {"http", "https"} and bool(url.hostname)


def _secrets(values: Mapping[str, str], mail: MailSettings | None) -> set[str]:
    """What must not be read in a message, also as it is written within an address."""
    found = {values.get("BOURSOMATIC_NOTICE_WEBHOOK"), values.get("BOURSOMATIC_STOOQ_KEY")}
    found |= {values.get("BOURSOMATIC_SMTP_PASSWORD"), mail.password if mail else None}
    for name in ("DATABASE_URL", "BOURSOMATIC_SMTP_URL", "BOURSOMATIC_NOTICE_WEBHOOK"):
        try:
            url = urlsplit(values.get(name, ""))
        except ValueError:
            continue
        found |= {url.password, unquote(url.password or "")}
        # A receiver that refuses may repeat what comes after its name, which is the secret of such an address.
        resource = url.path + (f"?{url.query}" if url.query else "")
        if name == "BOURSOMATIC_NOTICE_WEBHOOK" and len(resource) >= _SHORTEST_SECRET_PATH:
            found.add(resource)
    return {secret for secret in found if secret}


def _place(text: str) -> str:
    return text if "://" in text else str(_folder("ARTIFACTS_DIR", text))


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        message = f"{name} must be a folder; found {text!r}: {error}"
        raise ConfigurationError(message) from None


def _share(values: Mapping[str, str], name: str, default: float) -> float:
    text = values.get(name) or str(default)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        message = f"{name} must be a fraction from 0 to 1; found {text!r}. Example: {name}={default}"
        raise ConfigurationError(message)
    return share


def sensor_seconds(environ: Mapping[str, str] | None = None) -> int:
    """Seconds between two looks of a sensor: `BOURSOMATIC_SENSOR_SECONDS`.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Stands in for `os.environ`.

    Raises
    ------
    ConfigurationError
        If it is no whole number.
    """
    values = os.environ if environ is None else environ
    return _count(values, "BOURSOMATIC_SENSOR_SECONDS", meaning="of seconds", default=DEFAULT_SENSOR_SECONDS)


def wait_briefly() -> None:
    """Let the threads of a training wait for each other for microseconds, and then sleep.

    To be called before LightGBM is imported. On two cores a training of a few thousand rows takes eleven times as
    long where they sleep at once, and, with two others beside it, five times as long where they wait as long as
    GNU's OpenMP lets them. Who names a policy keeps it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _count(values: Mapping[str, str], name: str, *, meaning: str, default: int) -> int:
    text = values.get(name) or str(default)
    if not (text.isascii() and text.isdecimal()):
        message = f"{name} must be a whole number, {meaning}; found {text!r}. Example: {name}=2"
        raise ConfigurationError(message)
    return int(text)


def _rate(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if not text:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 < rate < float("inf"):
        message = f"{name} must be a number of requests above 0; found {text!r}. Example: {name}=2"
        raise ConfigurationError(message)
    return rate


def _address(values: Mapping[str, str], name: str) -> str | None:
    text = values.get(name)
    if text and not text.startswith(("http://", "https://")):
        message = f"{name} must be an http:// or https:// address; found {text!r}"
        raise ConfigurationError(message)
    return text.rstrip("/") if text else None
