"""The command `boursomatic dev`: the Dagster UI and its daemon, started and stopped as one."""

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, open_database
from boursomatic_assets.errors import ConfigurationError

HOST = "127.0.0.1"
STOPPING_SECONDS = 30


def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Open the Dagster UI with its daemon, on the same database and artifacts. Stop it with Ctrl-C."""
    from boursomatic_assets.storage.instance import open_instance

    _require_free(port)
    settings, database = open_database()
    open_instance(settings, database).dispose()
    command = [sys.executable, "-m", "dagster", "dev", "-m", "boursomatic_assets.definitions"]
    console.print(f"Dagster UI: [bold]http://{HOST}:{port}[/bold]  (stop with Ctrl-C)")
    # A handler of our own, so that the child does not inherit an ignored SIGINT from a script's background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A start and a run would print some thirty warnings about interfaces that Dagster may change.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore:Function `,ignore:Class `,ignore:Parameter `"}
    # Links in notices lead here, unless readers reach the UI by another address.
    quiet.setdefault("BOURSOMATIC_UI_URL", f"http://{HOST}:{port}")
    child = subprocess.Popen([*command, "--host", HOST, "--port", str(port)], start_new_session=True, env=quiet)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        code = child.wait()
    except KeyboardInterrupt:
        # To the whole group, as a terminal would: a code server with a run in flight outlives its parent for ever.
        os.killpg(child.pid, signal.SIGINT)
        code = _stopped(child)
    raise typer.Exit(code)


def _stopped(child: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of the child and of every process it started; what is left after a while is killed."""
    latest = time.monotonic() + STOPPING_SECONDS
    while time.monotonic() < latest:
        # A child that ended but was not asked for still counts as there.
        child.poll()
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    return 0


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
