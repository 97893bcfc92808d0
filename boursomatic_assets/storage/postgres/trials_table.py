"""The ledger of trials: every training whose figures were seen, to correct for trying many."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.storage.postgres.database import Database

_GIVEN = (
    "params_hash", "experiment", "data_version", "symbols", "first_session", "last_session", "test_first",
    "test_last", "sharpe", "rank_ic", "matched_lift", "accuracy", "run_id",
)  # fmt: skip
_REPLACED = ("sharpe", "rank_ic", "matched_lift", "accuracy", "run_id")


@dataclass(frozen=True)
class Trial:
    """One experiment, tried on one state of the data.

    `data_version` comes from `closes_version`. Sessions span the label panel and the test set. Figures are those of
    the test set, None where undefined; `sharpe` is per session, not annualised. `created_at` is UTC, of the first
    try.
    """

    params_hash: str
    experiment: dict[str, Any]
    data_version: str
    symbols: int
    first_session: date
    last_session: date
    test_first: date
    test_last: date
    sharpe: float | None = None
    rank_ic: float | None = None
    matched_lift: float | None = None
    accuracy: float | None = None
    run_id: str | None = None
    version: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class TrialCount:
    """Number of distinct experiments, and sample variance of their Sharpe ratios per session (0.0 below two)."""

    count: int
    sharpe_variance: float


def closes_version(labels: pl.DataFrame) -> str:
    """SHA-256 of the closes of a label panel; an experiment's features and thresholds do not change it."""
    return fingerprint(labels.select(*PANEL_KEY, "close"))


def record_trial(database: Database, trial: Trial) -> None:
    """Store a trial. The same experiment on the same data replaces its figures.

    The date of the first try, and the version, stay.
    """
    values = {name: getattr(trial, name) for name in _GIVEN}
    with database.connection() as connection:
        connection.execute(
            sa.text(
                f"INSERT INTO trials (id, {', '.join(_GIVEN)}) VALUES (:id, "  # noqa: S608
                f"{', '.join(f':{name}' for name in _GIVEN)}) ON CONFLICT (params_hash, data_version) DO UPDATE "
                f"SET {', '.join(f'{name} = excluded.{name}' for name in _REPLACED)}"
            ).bindparams(sa.bindparam("experiment", type_=sa.JSON())),
            {"id": uuid.uuid4(), **values},
        )


def name_version(database: Database, params_hash: str, data_version: str, version: str) -> None:
    """Record which model version was stored with a trial's figures."""
    with database.connection() as connection:
        connection.execute(
            sa.text(
                "UPDATE trials SET version = :version "
                "WHERE params_hash = :params_hash AND data_version = :data_version"
            ),
            {"version": version, "params_hash": params_hash, "data_version": data_version},
        )


def list_trials(database: Database) -> list[Trial]:
    """Every trial, the newest first."""
    names = ", ".join((*_GIVEN, "version", "created_at"))
    with database.connection() as connection:
        query = f"SELECT {names} FROM trials ORDER BY insertion_number DESC NULLS LAST, created_at DESC, id"  # noqa: S608
        return [Trial(**row) for row in connection.execute(sa.text(query)).mappings()]


def count_trials(database: Database, test_first: date, test_last: date) -> TrialCount:
    """Count the distinct experiments judged on test sessions that overlap these.

    Overlap counts, not equal data: otherwise one more bar would reset the count. Of an experiment tried on several
    states of the data, the newest Sharpe ratio enters the variance.
    """
    query = sa.text(
        "SELECT count(*), coalesce(var_samp(sharpe), 0) FROM (SELECT DISTINCT ON (params_hash) params_hash, sharpe "
        "FROM trials WHERE test_first <= :test_last AND test_last >= :test_first "
        "ORDER BY params_hash, test_last DESC, insertion_number DESC NULLS LAST, created_at DESC) newest"
    )
    with database.connection() as connection:
        count, variance = connection.execute(query, {"test_first": test_first, "test_last": test_last}).one()
    return TrialCount(int(count), float(variance))
