"""Commands in their own process and session, forked from a process that has imported the product."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.homes import executable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

# All imports of a training: commands are forked from a process that has imported them and started no thread.
PRELOADED = [
    "boursomatic_assets.cli", "boursomatic_assets.definitions", "polars", "pandas", "lightgbm", "sklearn.metrics",
    "boursomatic_assets.storage.dagster.instance", "boursomatic_assets.display.terminal.closing",
]  # fmt: skip
ENDING_SECONDS = 900
# Inherited by commands: silences Dagster's warnings at import.
QUIET = {"PYTHONWARNINGS": "ignore"}


def begun(
    *arguments: str, environment: Mapping[str, str] | None = None, said: Path | None = None
) -> ForkServerProcess:
    """Start `boursomatic` with arguments, in this process's environment or the given one.

    What it prints goes into the file `said`, or nowhere.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    inherited = dict(os.environ if environment is None else environment)
    process = context.Process(target=_become, args=(arguments, inherited, said))
    process.start()
    return process


def _become(arguments: tuple[str, ...], environment: dict[str, str], said: Path | None) -> None:
    """Become the command in a new session, so that it is killed with all its children."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    place = os.open(said or os.devnull, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (0, 1, 2) if said else (0, 1):
        os.dup2(place, stream)
    sys.argv = ["boursomatic", *arguments]
    runpy.run_path(executable(), run_name="__main__")


def ended(process: ForkServerProcess) -> int | None:
    """Wait for the end of a command; its exit code."""
    process.join(ENDING_SECONDS)
    return process.exitcode


def require_success(process: ForkServerProcess, what: str) -> None:
    """Wait for the end of a command; raises ChildProcessError unless its exit code is 0."""
    if ended(process) != 0:
        message = f"{what} ended with {process.exitcode}"
        raise ChildProcessError(message)


def kill(process: ForkServerProcess) -> bool:
    """Kill a command with its children; returns whether it had not ended before."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    # In case the child has no session yet.
    process.kill()
    process.join(ENDING_SECONDS)
    return process.exitcode == -signal.SIGKILL
