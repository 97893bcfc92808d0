"""Settings of the platform: places, the price source, and how often sensors run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from boursomatic_assets.settings import variables
from boursomatic_assets.settings.hiding import secrets_of

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.settings.variable import Values


@dataclass(frozen=True)
class Settings:
    """Values of the variables in `settings.variables`. None means not set; no exchange means all.

    `secrets` are those of all variables, which no message may contain. If a run named its price files, links to
    files outside `link_folders` are not followed.
    """

    home: Path
    database_url: str | None = field(repr=False)
    artifacts_dir: str
    provider: str
    provider_path: str | None
    price_folders: tuple[Path, ...]
    max_rejected_share: float
    threads: int
    universe: str | None
    min_arrived_share: float
    overlap_sessions: int
    retrain_after: int
    feed_hours: float
    gateway: str | None
    requests_per_second: float | None
    exchanges: tuple[str, ...]
    stooq_key: str | None = field(default=None, repr=False)
    eodhd_key: str | None = field(default=None, repr=False)
    tiingo_key: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)
    link_folders: tuple[Path, ...] | None = None

    @classmethod
    def from_environment(cls, environ: Values | None = None) -> Settings:
        """Read the settings from `environ`, by default `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable is invalid.
        """
        values = os.environ if environ is None else environ
        names = [each.name for each in fields(cls) if each.name not in {"secrets", "link_folders"}]
        found = {name: getattr(variables, name.upper()).find(values) for name in names}
        return cls(**{**found, "exchanges": found["exchanges"] or ()}, secrets=secrets_of(values))


def starting_status(environ: Values | None = None) -> str:
    """Name of Dagster's default status of sensors and schedules; raises ConfigurationError if it is invalid."""
    is_on = variables.AUTOMATION.read(os.environ if environ is None else environ)
    return "RUNNING" if is_on else "STOPPED"


def instance_address() -> str | None:
    """Address of the own Dagster instance's storage, if this process or its parent has set it."""
    return os.environ.get("BOURSOMATIC_DAGSTER_URL")


def chosen_instance() -> Path | None:
    """Folder that the user set as `DAGSTER_HOME`; None if it is not set, or the product has set it."""
    if instance_address() or not variables.DAGSTER_HOME.is_set(os.environ):
        return None
    return variables.DAGSTER_HOME.read(os.environ)


def sensor_seconds(environ: Values | None = None) -> int:
    """Seconds between two evaluations of a sensor.

    Raises
    ------
    ConfigurationError
        If it is no whole number.
    """
    return variables.SENSOR_SECONDS.read(os.environ if environ is None else environ)


def wait_briefly() -> None:
    """Let training threads wait for microseconds before they sleep. Call it before LightGBM's import.

    On two cores, a training of a few thousand rows takes eleven times as long if threads sleep at once. Beside two
    other trainings it takes five times as long with GNU OpenMP's default wait. The user's own policy is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
