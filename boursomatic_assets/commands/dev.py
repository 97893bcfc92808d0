"""The command `boursomatic dev`: the Dagster UI and its daemon, started and stopped as one, and kept up."""

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
# Without the packages of this installation, which it does not need: it starts at once.
WATCH = [sys.executable, "-I", "-S", str(Path(dev_watch.__file__))]
# Of what `dagster dev` starts, these hold the port and the daemon's place; a code server may still execute runs.
REPLACED = ("dagster_webserver", "dagster._daemon")


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Open the Dagster UI with its daemon, on the same database and artifacts. Stop it with Ctrl-C.

    Should the UI or the daemon end by itself, both are started again; runs that go on meanwhile are not disturbed.
    """
    from boursomatic_assets.storage.dagster.instance import open_instance
    from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

    home, address = Settings.from_environment().home, f"http://{HOST}:{port}"
    if (home / LOCK).exists():
        # Before the port: another one is no remedy where a first one runs.
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
    # A handler of our own, so that the child does not inherit an ignored SIGINT from a script's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A start and a run would print some thirty warnings about interfaces that Dagster may change.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:Function `,ignore:Class `,ignore:Parameter `"}
    # Links in notices lead here, unless readers reach the UI by another address.
    quiet.setdefault("BOURSOMATIC_UI_URL", address)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    started: list[subprocess.Popen[bytes]] = []
    # Should this process be killed, the watch ends what it started; until then it holds this home's lock as well.
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
        # To the whole group, as a terminal would: a code server with a run in flight outlives its parent.
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
    """Start `dagster dev`, and again whenever it has ended; returns when a start comes to nothing."""
    command = [*WATCH, sys.executable, "-m", "dagster", "dev", "-m", "boursomatic_assets.definitions"]
    command += ["--host", HOST, "--port", str(port)]
    has_served = True
    while has_served:
        # It begins when the watch knows of it: no kill comes between.
        child = subprocess.Popen(command, start_new_session=True, env=environment, stdin=subprocess.PIPE)
        _tell(watch, "+", child)
        assert child.stdin is not None  # noqa: S101 (it was started with a pipe)
        child.stdin.write(b"\n")
        child.stdin.close()
        # Those of which nothing is left need no signal at the end, and their number may be somebody else's by then.
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
    """End what is left of a `dagster dev` that was killed itself, but for what executes runs."""
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
    """Whether a child or any process that it started is there."""
    # A child that ended but was not asked for still counts as there.
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_all(started: list["subprocess.Popen[bytes]"]) -> None:
    """Wait for the end of the children and of every process they started; what is left after a while is killed."""
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
