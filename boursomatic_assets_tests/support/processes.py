"""Real interpreters that open, wait, die or run at once, as the programs of a data team do."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

# What a process runs before it says that it is ready, so that imports do not spread the starts of several.
START = """
import os, sys
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets.storage.postgres.database import Database
settings = Settings.from_environment()
"""
WAIT = "\nprint('ready', flush=True); sys.stdin.readline()\n"
# What `materialize --select instruments,price_bars` does to the tables, without three seconds of imports.
UPDATE = """
provider, now = provider_for(settings), datetime.now(UTC)
write_universe(database, provider.instruments())
update_bars(database, provider, settings, now, lambda message: None)
"""
IMPORTS = """
from datetime import UTC, datetime
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.instruments_table import write_universe
from boursomatic_assets.services.ingest.update import update_bars
database = Database.open(settings)
"""
SECONDS = 900


def spawn(script: str) -> subprocess.Popen[str]:
    """Start Python on a script, with this process's environment."""
    return subprocess.Popen(
        [sys.executable, "-c", START + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Wait for a script to reach `WAIT`."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + process.communicate(timeout=SECONDS)[1]


def finish(process: subprocess.Popen[str]) -> str:
    """Let a process go on to its end; what it printed since it was ready."""
    output, errors = process.communicate("\n", timeout=SECONDS)
    assert process.returncode == 0, errors
    return output


def at_once(count: int, script: str, imports: str = "") -> list[str]:
    """Run a script in several processes that start it together; what each printed."""
    processes = [spawn(imports + WAIT + script) for _ in range(count)]
    for process in processes:
        wait_until_ready(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [finish(process) for process in processes]


# Each line asks for a child, or for the end of one that was begun.
_FORK = """
for line in sys.stdin:
    if line == "begin\\n":
        child = os.fork()
        if child == 0:
            exec(SCRIPT)
            os._exit(0)
        print(child, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(line), 0)[1]), flush=True)
"""


class Forks:
    """Processes that are forked from one which has made the imports: twenty cost the imports of one.

    The imports must start no thread.
    """

    def __init__(self, script: str, imports: str) -> None:
        self._parent = spawn(f"{imports}\nSCRIPT = {script!r}\n{_FORK}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What children said of their errors; shown when the test fails.
        sys.stderr.write(self._parent.communicate(timeout=SECONDS)[1])

    def begin(self) -> int:
        """Let one begin; its process."""
        return self._asked("begin")

    def exit_code(self, child: int) -> int:
        """Wait for the end of one; below zero it is the signal that ended it."""
        return self._asked(str(child))

    def _asked(self, line: str) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(f"{line}\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())


def copy_cluster(cluster: Path, home: Path) -> None:
    """Copy a data folder into a home with its owners: run by root, the server has a user of its own."""
    subprocess.run(["cp", "-a", str(cluster), str(home / "postgres")], check=True)  # noqa: S607
