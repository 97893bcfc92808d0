"""The command `boursomatic dev`: start the Dagster UI and its daemon together, restart and stop them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands import dev_watch, webserver
from boursomatic_assets.commands.dev_lock import LOCK, only_one
from boursomatic_assets.commands.opening import console, open_database
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import Settings, sensor_seconds, starting_status

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

HOST = "127.0.0.1"
STOPPING_SECONDS = 30
LOOKING_SECONDS = 0.5
RENEWING_SECONDS = 5.0
ANSWER_SECONDS = 60
FAILED = 1
# Without this installation's packages, so that it starts at once.
WATCH = [sys.executable, "-I", "-S", str(Path(dev_watch.__file__))]
# Children of `dagster dev` that hold the port or the daemon's lock. A code server may still execute runs.
REPLACED = (webserver.MODULE, "dagster._daemon")


@dataclass(frozen=True)
class Address:
    """Where the UI listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Address for a browser."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def reached(self) -> str:
        """Host at which this machine reaches it."""
        return {"0.0.0.0": HOST, "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)

    def answers(self) -> bool:
        """Whether the port takes connections."""
        with suppress(OSError), socket.create_connection((self.reached, self.port), timeout=1):
            return True
        return False


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 3000,
    host: Annotated[
        str,
        typer.Option(help="Address of the UI. Another one than this machine's own needs BOURSOMATIC_UI_PASSWORD."),
    ] = HOST,
) -> None:
    """Open the Dagster UI with its daemon, on the same database and artifacts. Stop it with Ctrl-C.

    If the UI or the daemon ends by itself, both are started again. Runs in progress continue. Other web pages
    cannot use the UI.
    """
    from boursomatic_assets.commands.web_guard import access_to
    from boursomatic_assets.storage.dagster.instance import open_instance
    from boursomatic_assets.storage.postgres.daemon_lock import DaemonLock

    home, address = Settings.from_environment().home, Address(host, port)
    # The code location reads these settings. Invalid ones would end its processes again and again.
    starting_status()
    sensor_seconds()
    access_to(host)
    if (home / LOCK).exists():
        # Before the port check: another port does not help if `boursomatic dev` runs already.
        with only_one(home, address.url):
            pass
    _require_free(address)
    with only_one(home, address.url) as held:
        settings, database = open_database()
        open_instance(settings, database).dispose()
        with DaemonLock(database) as lock:
            _run(address, held, lock)


def _run(address: Address, held: int, lock: "DaemonLock") -> None:
    console.print(f"Dagster UI: [bold]{address.url}[/bold]  (stop with Ctrl-C)")
    # A background job of a script would pass an ignored SIGINT on to its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Dagster would print some thirty warnings about its own interfaces.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:Function `,ignore:Class `,ignore:Parameter `"}
    # Links in notices lead here, unless the user has set another address.
    quiet.setdefault("BOURSOMATIC_UI_URL", address.url)
    quiet.setdefault("BOURSOMATIC_AUTOMATION", "on")
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    started: list[subprocess.Popen[bytes]] = []
    # If this process is killed, the watch ends the children; until then it holds the home's lock as well.
    with subprocess.Popen(WATCH, stdin=subprocess.PIPE, start_new_session=True, pass_fds=(held,)) as watch:
        try:
            _keep_up(address, quiet, started, watch, lock)
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
    address: Address,
    environment: Mapping[str, str],
    started: list["subprocess.Popen[bytes]"],
    watch: "subprocess.Popen[bytes]",
    lock: "DaemonLock",
) -> None:
    """Start `dagster dev` again whenever it ends; returns if a start never answered."""
    command = [*WATCH, sys.executable, "-m", webserver.MODULE, "dev", "-m", "boursomatic_assets.definitions"]
    command += ["--host", address.host, "--port", str(address.port)]
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
            if not has_served and address.answers():
                has_served = True
                _require_guarded(address)
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
    """Wait until the children and their processes have ended; kill the remaining ones after a timeout."""
    latest = time.monotonic() + STOPPING_SECONDS
    while left := [child for child in started if _is_left(child)]:
        if time.monotonic() > latest:
            for child in left:
                os.killpg(child.pid, signal.SIGKILL)
            return
        time.sleep(0.1)


def _require_guarded(address: Address) -> None:
    """Raise unless the server refuses a host name that is not allowed."""
    from boursomatic_assets.commands.web_guard import FORBIDDEN

    with closing(HTTPConnection(address.reached, address.port, timeout=ANSWER_SECONDS)) as connection:
        connection.request("GET", "/server_info", headers={"Host": "guard.invalid"})
        if connection.getresponse().status != FORBIDDEN:
            message = (
                "the Dagster UI answers other web pages: this version of Dagster starts it without the guard. "
                "Install the pinned versions: pip install --constraint constraints.txt --editable ."
            )
            raise ConfigurationError(message)


def _require_free(address: Address) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            message = (
                f"port {address.port} on {address.host} is taken, perhaps by another boursomatic dev. "
                f"Try: boursomatic dev --port {address.port + 1}"
            )
            raise ConfigurationError(message) from None
