"""What passes is tried again: a database or a price source that does not answer. Bad data never is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import sqlalchemy as sa
from dagster import AssetExecutionContext, Backoff, Jitter, RetryPolicy, RetryRequested

from boursomatic_assets.errors import DatabaseUnreachableError, SourceFailedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from dagster import DagsterRun

P = ParamSpec("P")
R = TypeVar("R")

# About 10, 30 and 70 seconds: a server that restarts is back by then.
POLICY = RetryPolicy(max_retries=3, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


def is_passing(error: BaseException | None) -> bool:
    """Whether an error says nothing about the data: a server that is away, or a connection that broke."""
    if isinstance(error, DatabaseUnreachableError | SourceFailedError):
        return True
    # A statement that was refused is refused again; one whose connection broke is not.
    return isinstance(error, StorageError) and _is_broken_connection(error.__cause__)


def _is_broken_connection(cause: BaseException | None) -> bool:
    from adbc_driver_postgresql import dbapi

    return isinstance(cause, sa.exc.OperationalError | dbapi.OperationalError)


def try_again(error: Exception, run: DagsterRun, attempts: int) -> None:
    """Ask Dagster for another attempt where a passing fault ended this one; else do nothing.

    Parameters
    ----------
    error : Exception
    run : DagsterRun
        One that a command executes is not tried again: somebody is looking at it.
    attempts : int
        Attempts before this one.

    Raises
    ------
    RetryRequested

    Notes
    -----
    A `RetryPolicy` given to Dagster itself would try again after any error, also after bad data and after a run was
    stopped by hand.
    """
    if is_passing(error) and run.remote_job_origin is not None and attempts < POLICY.max_retries:
        delay = POLICY.calculate_delay(attempts + 1)
        raise RetryRequested(max_retries=POLICY.max_retries, seconds_to_wait=delay) from error


def retried(body: Callable[P, R]) -> Callable[P, R]:
    """Let the body of an asset be tried again where a passing fault ended it."""

    @functools.wraps(body)
    def trying(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            context = AssetExecutionContext.get()
            try_again(error, context.run, context.retry_number)
            raise

    # Code references and tracebacks lead to the asset: Dagster asks for the file of the outermost function.
    own = body.__code__
    code: CodeType = trying.__code__  # type: ignore[attr-defined]
    moved = code.replace(co_filename=own.co_filename, co_firstlineno=own.co_firstlineno)
    trying.__code__ = moved  # type: ignore[attr-defined]
    return trying
