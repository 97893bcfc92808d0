"""The environment as typed settings, read when asked for and never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PROVIDER = "sample"
DEFAULT_MAX_REJECTED_SHARE = 0.01
DEFAULT_MIN_ARRIVED_SHARE = 0.98
DEFAULT_OVERLAP_SESSIONS = 5
DEFAULT_RETRAIN_AFTER = 20


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
