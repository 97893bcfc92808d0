"""What is tried again and what never is. Dagster reads real annotations: no future import here."""

from types import SimpleNamespace
from typing import Any

import dagster as dg
import psycopg2
import pytest
import sqlalchemy as sa
from adbc_driver_postgresql import dbapi

from boursomatic_assets.errors import (
    BarContractError,
    BoursomaticError,
    DatabaseUnreachableError,
    MissingArtifactError,
    NoBarsError,
    SchemaVersionError,
    SourceFailedError,
    SourceFileError,
    StorageError,
)
from boursomatic_assets.storage.dagster.retries import POLICY, is_passing, retried, try_again
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets_tests.support.catalog import run

LAUNCHED: Any = SimpleNamespace(remote_job_origin="a code location")
COMMAND: Any = SimpleNamespace(remote_job_origin=None)


@pytest.mark.parametrize("error", [DatabaseUnreachableError("away"), SourceFailedError("down")])
def test_try_again_after_an_unreachable_server(error: BoursomaticError) -> None:
    assert is_passing(error)
    with pytest.raises(dg.RetryRequested) as asked:
        try_again(error, LAUNCHED, attempts=0)
    assert asked.value.max_retries == POLICY.max_retries == 3
    assert asked.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        BarContractError("too many"),
        SourceFileError("truncated"),
        NoBarsError("none"),
        MissingArtifactError("gone"),
        SchemaVersionError("older"),
        StorageError("refused"),
        ValueError("a bug"),
        dg.Failure("a check", allow_retries=False),
    ],
)
def test_try_again_not_after_bad_data_or_bugs(error: Exception) -> None:
    assert not is_passing(error)
    try_again(error, LAUNCHED, attempts=0)


def test_is_passing_separates_broken_connections_from_refused_statements(database: Database) -> None:
    end = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(StorageError) as broken, database.connection() as connection:
        connection.execute(sa.text(end))
    assert isinstance(broken.value.__cause__, sa.exc.OperationalError)
    assert isinstance(broken.value.__cause__.orig, psycopg2.OperationalError)
    assert is_passing(broken.value)
    with pytest.raises(StorageError) as broken:
        database.read(end)
    assert isinstance(broken.value.__cause__, dbapi.Error)
    assert is_passing(broken.value)

    with pytest.raises(StorageError) as refused, database.connection() as connection:
        connection.execute(sa.text("SELECT 1 / 0"))
    assert not is_passing(refused.value)
    with pytest.raises(StorageError) as refused:
        database.read("SELECT nothing")
    assert not is_passing(refused.value)


def test_is_passing_after_the_first_rows(database: Database) -> None:
    # The server sends rows before it meets the last one, in which it divides by zero or ends the connection.
    with pytest.raises(StorageError, match="division by zero") as refused:
        database.read("SELECT 1 / (300000 - n) AS one FROM generate_series(1, 300000) AS n")
    assert not is_passing(refused.value)
    with pytest.raises(StorageError, match="terminat") as broken:
        database.read(
            "SELECT CASE WHEN n = 300000 THEN pg_terminate_backend(pg_backend_pid()) END AS ended "
            "FROM generate_series(1, 300000) AS n"
        )
    assert is_passing(broken.value)
    assert database.read("SELECT 1 AS one")["one"].item() == 1
    run(database, "SELECT 1")


def test_try_again_waits_longer_and_ends() -> None:
    waits = []
    for attempts in range(POLICY.max_retries):
        with pytest.raises(dg.RetryRequested) as asked:
            try_again(SourceFailedError("down"), LAUNCHED, attempts)
        waits.append(asked.value.seconds_to_wait)
    # (2^n - 1) * 10 seconds, give or take 10: 10, 30 and 70.
    assert all(abs(wait - expected) <= 10 for wait, expected in zip(waits, (10, 30, 70), strict=True))
    try_again(SourceFailedError("down"), LAUNCHED, attempts=POLICY.max_retries)


def test_try_again_not_for_a_command() -> None:
    try_again(SourceFailedError("down"), COMMAND, attempts=0)


def test_retried_keeps_the_assets_body(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.asset
    @retried
    def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """What the UI shows."""
        if context.run.tags.get("fails"):
            message = "down"
            raise SourceFailedError(message)
        return dg.MaterializeResult(metadata={"rows": 1})

    assert counted.descriptions_by_key == {dg.AssetKey("counted"): "What the UI shows."}
    assert dg.materialize([counted]).success
    failed = dg.materialize([counted], tags={"fails": "yes"}, raise_on_error=False)
    assert not failed.success
    assert not [event for event in failed.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert "SourceFailedError" in capfd.readouterr().err
