"""Homes of their own for what is tried out: folder, environment, and the processes that work there."""

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
    """An empty home; at the end it goes."""
    # Short, since the embedded server's socket lies in it and a socket's path may have some 100 characters.
    home = Path(tempfile.mkdtemp(prefix="bm-ui-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def environment_at(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """An environment that names a home and these settings, and none of the caller's own."""
    kept = {
        name: text for name, text in os.environ.items() if name not in _SETTINGS and not name.startswith(_PREFIXES)
    }
    return {**kept, "BOURSOMATIC_HOME": str(home), **settings}


@contextmanager
def entered(environment: Mapping[str, str]) -> Iterator[None]:
    """Make an environment that of this process; afterwards it is as before."""
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
    """Processes that work on a home, but for this one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mentions(process, home)]


def _mentions(process: psutil.Process, home: Path) -> bool:
    """Whether a process names the home: in its command, its environment, or as the folder it works in."""
    known: list[Callable[[], list[str]]] = [
        process.cmdline,
        lambda: list(process.environ().values()),
        lambda: [process.cwd()],
    ]
    return any(str(home) in text for texts in known for text in readable(texts))


def readable(texts: Callable[[], list[str]]) -> list[str]:
    """What a process says of itself; nothing where it has ended meanwhile, or is somebody else's."""
    try:
        return texts()
    except psutil.Error:
        return []
