"""Temporary homes: folder, environment, and the processes that work there."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SETTINGS, _PREFIXES = ("DATABASE_URL", "ARTIFACTS_DIR"), ("BOURSOMATIC_", "DAGSTER_", "PG")


@contextmanager
def new_home() -> Iterator[Path]:
    """An empty home, removed at the end."""
    # A short name: it holds the embedded server's socket, whose path is limited to about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="bm-ui-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def environment_at(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with this home and these settings, without other settings of the product."""
    kept = {
        name: text for name, text in os.environ.items() if name not in _SETTINGS and not name.startswith(_PREFIXES)
    }
    return {**kept, "BOURSOMATIC_HOME": str(home), **settings}


@contextmanager
def entered(environment: Mapping[str, str]) -> Iterator[None]:
    """Use an environment for this process, and restore the former one."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def executable() -> str:
    """The command `boursomatic` of this installation."""
    return str(Path(sys.executable).with_name("boursomatic"))


def processes_of(home: Path) -> list[psutil.Process]:
    """Other processes that work on a home."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mentions(process, home)]


def _mentions(process: psutil.Process, home: Path) -> bool:
    """Whether a process names the home in its command, its environment or its working folder."""
    known: list[Callable[[], list[str]]] = [
        process.cmdline,
        lambda: list(process.environ().values()),
        lambda: [process.cwd()],
    ]
    return any(str(home) in text for texts in known for text in readable(texts))


def readable(texts: Callable[[], list[str]]) -> list[str]:
    """A process's texts; empty if it has ended, or belongs to another user."""
    try:
        return texts()
    except psutil.Error:
        return []
