"""Settings of the platform: where things are, which source feeds them, and how often it acts by itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boursomatic_assets.settings import variables

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets.settings.variable import Values


@dataclass(frozen=True)
class Settings:
    """Where things are and which source feeds them.

    Each attribute is the variable of that name in `settings.variables`. None means that the variable is not set;
    no exchange means all of them. What may hold a secret is kept out of `repr`.
    """

    home: Path
    database_url: str | None = field(repr=False)
    artifacts_dir: str
    provider: str
    provider_path: str | None
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

    @classmethod
    def from_environment(cls, environ: Values | None = None) -> Settings:
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
        return cls(
            home=variables.HOME.read(values),
            database_url=variables.DATABASE_URL.find(values),
            artifacts_dir=variables.ARTIFACTS_DIR.read(values),
            provider=variables.PROVIDER.read(values),
            provider_path=variables.PROVIDER_PATH.find(values),
            max_rejected_share=variables.MAX_REJECTED_SHARE.read(values),
            threads=variables.THREADS.read(values),
            universe=variables.UNIVERSE.find(values),
            min_arrived_share=variables.MIN_ARRIVED_SHARE.read(values),
            overlap_sessions=variables.OVERLAP_SESSIONS.read(values),
            retrain_after=variables.RETRAIN_AFTER.read(values),
            feed_hours=variables.FEED_HOURS.read(values),
            gateway=variables.GATEWAY.find(values),
            requests_per_second=variables.REQUESTS_PER_SECOND.find(values),
            exchanges=variables.EXCHANGES.find(values) or (),
            stooq_key=variables.STOOQ_KEY.find(values),
            eodhd_key=variables.EODHD_KEY.find(values),
            tiingo_key=variables.TIINGO_KEY.find(values),
        )


def sensor_seconds(environ: Values | None = None) -> int:
    """Seconds between two evaluations of a sensor.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Stands in for `os.environ`.

    Raises
    ------
    ConfigurationError
        If it is no whole number.
    """
    return variables.SENSOR_SECONDS.read(os.environ if environ is None else environ)


def wait_briefly() -> None:
    """Let the threads of a training wait for each other for microseconds, and then sleep.

    To be called before LightGBM is imported. On two cores a training of a few thousand rows takes eleven times as
    long if threads sleep at once. With two other trainings beside it, it takes five times as long if they wait as
    long as GNU's OpenMP lets them. A policy that the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
