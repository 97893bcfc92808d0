"""Retries of transient faults: a database or a price source that does not answer. Bad data is never retried."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import ParamSpec, TypeVar

import sqlalchemy as sa
from dagster import AssetExecutionContext, Backoff, DagsterRun, Jitter, RetryPolicy, RetryRequested

from boursomatic_assets.errors import DatabaseUnreachableError, SourceFailedError, StorageError

P = ParamSpec("P")
R = TypeVar("R")

# About 10, 30 and 70 seconds: a server that restarts is back by then.
POLICY = RetryPolicy(max_retries=3, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


def is_passing(error: BaseException | None) -> bool:
    """Whether a fault is transient: a server that is down, or a broken connection."""
    from adbc_driver_postgresql import dbapi

    if isinstance(error, DatabaseUnreachableError | SourceFailedError):
        return True
    # A refused statement would be refused again; a broken connection may recover.
    broken = sa.exc.OperationalError | dbapi.OperationalError
    return isinstance(error, StorageError) and isinstance(error.__cause__, broken)


def try_again(error: Exception, run: DagsterRun, attempts: int) -> None:
    """Raise RetryRequested for a transient fault of a launched run; otherwise do nothing.

    A run executed by a command is not retried: its user sees the error. A `RetryPolicy` of Dagster would also retry
    bad data and runs stopped by hand.
    """
    if is_passing(error) and run.remote_job_origin is not None and attempts < POLICY.max_retries:
        delay = POLICY.calculate_delay(attempts + 1)
        raise RetryRequested(max_retries=POLICY.max_retries, seconds_to_wait=delay) from error


def retried(body: Callable[P, R]) -> Callable[P, R]:
    """Decorate the body of an asset so that it is retried after a transient fault."""

    @functools.wraps(body)
    def trying(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            context = AssetExecutionContext.get()
            try_again(error, context.run, context.retry_number)
            raise

    # Dagster reads code references from the outermost function: point it to the asset's file.
    own = body.__code__
    code: CodeType = trying.__code__  # type: ignore[attr-defined]
    moved = code.replace(co_filename=own.co_filename, co_firstlineno=own.co_firstlineno)
    trying.__code__ = moved  # type: ignore[attr-defined]
    return trying
