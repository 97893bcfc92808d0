"""The command `boursomatic dev`: start the Dagster UI and its daemon together, restart and stop them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands import dev_watch
from boursomatic_assets.commands.dev_lock import LOCK, only_one
from boursomatic_assets.commands.opening import console, open_database
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import Settings

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

HOST = "127.0.0.1"
STOPPING_SECONDS = 30
LOOKING_SECONDS = 0.5
RENEWING_SECONDS = 5.0
FAILED = 1
# Without this installation's packages, so that it starts at once.
WATCH = [sys.executable, "-I", "-S", str(Path(dev_watch.__file__))]
# Children of `dagster dev` that hold the port or the daemon's lock. A code server may still execute runs.
REPLACED = ("dagster_webserver", "dagster._daemon")


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Open the Dagster UI with its daemon, on the same database and artifacts. Stop it with Ctrl-C.

    If the UI or the daemon ends by itself, both are started again. Runs in progress continue.
    """
    from boursomatic_assets.storage.dagster.instance import open_instance
    from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

    home, address = Settings.from_environment().home, f"http://{HOST}:{port}"
    if (home / LOCK).exists():
        # Before the port is checked: if another one runs, another port does not help.
        with only_one(home, address):
            pass
    _require_free(port)
    with only_one(home, address) as held:
        settings, database = open_database()
        open_instance(settings, database).dispose()
        with DaemonLock(database) as lock:
            _run(port, address, held, lock)


def _run(port: int, address: str, held: int, lock: "DaemonLock") -> None:
    console.print(f"Dagster UI: [bold]{address}[/bold]  (stop with Ctrl-C)")
    # A background job of a script would pass an ignored SIGINT on to its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Dagster would print some thirty warnings about its own interfaces.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:Function `,ignore:Class `,ignore:Parameter `"}
    # Links in notices lead here, unless the user has set another address.
    quiet.setdefault("BOURSOMATIC_UI_URL", address)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    started: list[subprocess.Popen[bytes]] = []
    # If this process is killed, the watch ends the children; until then it holds the home's lock as well.
    with subprocess.Popen(WATCH, stdin=subprocess.PIPE, start_new_session=True, pass_fds=(held,)) as watch:
        try:
            _keep_up(port, quiet, started, watch, lock)
        except KeyboardInterrupt:
            _end(started, watch)
            raise typer.Exit from None
        except ConfigurationError:
            _end(started, watch)
            raise
    raise typer.Exit(FAILED)


def _end(started: list["subprocess.Popen[bytes]"], watch: "subprocess.Popen[bytes]") -> None:
    for child in started:
        # To the whole group, as a terminal does: a code server that executes a run outlives its parent.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
    _wait_for_all(started)
    for child in started:
        _tell(watch, "-", child)


def _tell(watch: "subprocess.Popen[bytes]", sign: str, child: "subprocess.Popen[bytes]") -> None:
    assert watch.stdin is not None  # noqa: S101 (it was started with a pipe)
    with suppress(BrokenPipeError):
        watch.stdin.write(f"{sign}{child.pid}\n".encode())
        watch.stdin.flush()


def _keep_up(
    port: int,
    environment: Mapping[str, str],
    started: list["subprocess.Popen[bytes]"],
    watch: "subprocess.Popen[bytes]",
    lock: "DaemonLock",
) -> None:
    """Start `dagster dev` again whenever it ends; returns if a start never served."""
    command = [*WATCH, sys.executable, "-m", "dagster", "dev", "-m", "boursomatic_assets.definitions"]
    command += ["--host", HOST, "--port", str(port)]
    has_served = True
    while has_served:
        # The child begins only after the watch knows its group.
        child = subprocess.Popen(command, start_new_session=True, env=environment, stdin=subprocess.PIPE)
        _tell(watch, "+", child)
        assert child.stdin is not None  # noqa: S101 (it was started with a pipe)
        child.stdin.write(b"\n")
        child.stdin.close()
        # Groups that have ended must get no signal: their number may be reused.
        for ended in [one for one in started if not _is_left(one)]:
            started.remove(ended)
            _tell(watch, "-", ended)
        started.append(child)
        has_served, renewed = False, time.monotonic()
        while child.poll() is None:
            time.sleep(LOOKING_SECONDS)
            has_served = has_served or _answers(port)
            if time.monotonic() - renewed > RENEWING_SECONDS:
                lock.renew()
                renewed = time.monotonic()
        _clear(child.pid)
        if has_served:
            console.print("The UI or the daemon has ended by itself: both are started again.")


def _clear(group: int) -> None:
    """Kill the UI and the daemon of a `dagster dev` that has ended, but no process that executes runs."""
    for process in _members(group):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _members(group: int) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and set(REPLACED) & set(process.cmdline()):
                yield process.pid


def _is_left(child: "subprocess.Popen[bytes]") -> bool:
    """Whether a child or any process of its group exists."""
    # Reap the child: until then it counts as a process.
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_all(started: list["subprocess.Popen[bytes]"]) -> None:
    """Wait for the end of the children and their processes; kill those left after a while."""
    latest = time.monotonic() + STOPPING_SECONDS
    while left := [child for child in started if _is_left(child)]:
        if time.monotonic() > latest:
            for child in left:
                os.killpg(child.pid, signal.SIGKILL)
            return
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            message = (
                f"port {port} on {HOST} is taken, perhaps by another boursomatic dev. "
                f"Try: boursomatic dev --port {port + 1}"
            )
            raise ConfigurationError(message) from None
