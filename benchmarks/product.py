"""The product as a person leaves it on: `boursomatic dev` in a process of its own, asked over GraphQL."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from benchmarks.homes import entered, environment_at, executable, new_home, processes_of, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

HOST = "127.0.0.1"
# Shared machines are slow at times; nothing here waits longer than what it waits for.
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 900, 1800, 600
ASKING_SECONDS = 0.5
DAEMON = "dagster._daemon"
# Settings by which sensors look again at once, for who waits for them.
OFTEN = {"BOURSOMATIC_SENSOR_SECONDS": "6"}
ENDS = ("SUCCESS", "FAILURE", "CANCELED")
REPOSITORY = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "boursomatic_assets.definitions",
}

_RUNS = """
{ runsOrError { ... on Runs { results { runId jobName status startTime endTime tags { key value } } } } }
"""
_LAUNCH = """
mutation ($job: JobOrPipelineSelector!, $config: RunConfigData!) {
  launchRun(executionParams: {selector: $job, runConfigData: $config}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
# Ticks before a moment that is far off: without one, those from before the last restart are not found.
_SENSORS = """
query ($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) { ... on Sensors { results {
    name description sensorState { status ticks(limit: 50, beforeTimestamp: 4102444800) {
      tickId status timestamp endTimestamp skipReason error { message } } } } } }
}
"""

T = TypeVar("T")


class ProductError(RuntimeError):
    """The product did not do what it was asked for, or ended."""


@dataclass(frozen=True)
class RunRecord:
    """A run as the UI shows it.

    Attributes
    ----------
    run_id, job, status : str
    started, ended : float or None
        Seconds since 1970; None where it has not.
    tags : dict of str to str
    """

    run_id: str
    job: str
    status: str
    started: float | None
    ended: float | None
    tags: dict[str, str]

    @property
    def is_in_flight(self) -> bool:
        """Whether its end is still to come."""
        return self.status not in ENDS


@dataclass
class Product:
    """A running `boursomatic dev` with a home of its own.

    Attributes
    ----------
    home : Path
    port : int
    settings : mapping of str to str
        Variables that it was given beside its home.
    process : subprocess.Popen
    """

    home: Path
    port: int
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait for its answer."""
        self.process = _start(self)
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        """Wait until the UI answers and a daemon is there."""
        wait_until(self.answers, START_SECONDS, "answer of the UI")
        wait_until(self.daemon, START_SECONDS, "daemon")

    def answers(self) -> bool:
        """Whether the UI answers now."""
        if self.process.poll() is not None:
            message = f"boursomatic dev has ended: {self.log()}"
            raise ProductError(message)
        try:
            return bool(self.graphql("{ version }"))
        except (OSError, http.client.HTTPException):
            return False

    def address(self, path: str = "/") -> str:
        """Address of a page."""
        return f"http://{HOST}:{self.port}{path}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its commands: nothing of the caller's own settings is in it."""
        return environment_at(self.home, self.settings)

    def entered(self) -> AbstractContextManager[None]:
        """Make its environment that of this process, for what is done in it against the same home."""
        return entered(self.variables)

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask the UI's own interface."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        if "errors" in answer:
            raise ProductError(str(answer["errors"]))
        found: dict[str, Any] = answer["data"]
        return found

    def runs(self) -> list[RunRecord]:
        """All runs, the newest first."""
        return [
            RunRecord(
                run_id=run["runId"],
                job=run["jobName"],
                status=run["status"],
                started=run["startTime"],
                ended=run["endTime"],
                tags={tag["key"]: tag["value"] for tag in run["tags"]},
            )
            for run in self.graphql(_RUNS)["runsOrError"]["results"]
        ]

    def runs_of_sensors(self) -> list[RunRecord]:
        """Runs that sensors started, the newest first."""
        return [run for run in self.runs() if "dagster/sensor_name" in run.tags]

    def run_ids(self) -> list[str]:
        """Ids of all runs, the newest first."""
        return [run.run_id for run in self.runs()]

    def run_status(self, run_id: str) -> str:
        """How far a run is, or how it ended."""
        query = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        found: str = self.graphql(query, id=run_id)["runOrError"]["status"]
        return found

    def launch(self, job: str, config: Mapping[str, Any] | None = None) -> str:
        """Launch a job as the Launchpad does; its run's id."""
        made = self.graphql(_LAUNCH, job={**REPOSITORY, "jobName": job}, config=config or {})["launchRun"]
        if made["__typename"] != "LaunchRunSuccess":
            raise ProductError(str(made))
        found: str = made["run"]["runId"]
        return found

    def end_of(self, run_id: str) -> str:
        """Wait for the end of a run: SUCCESS, FAILURE or CANCELED."""

        def end() -> str | None:
            status = self.run_status(run_id)
            return status if status in ENDS else None

        return wait_until(end, RUN_SECONDS, "end of the run")

    def require_success(self, run_id: str) -> None:
        """Wait for the end of a run, and show the log when it is not a good one."""
        if self.end_of(run_id) != "SUCCESS":
            raise ProductError(self.log())

    def wait_for_jobs(self, **jobs: int) -> list[RunRecord]:
        """Wait until sensors have started so many runs of each job, all ended well; returns them."""
        found: list[RunRecord] = []

        def ended() -> bool:
            found[:] = self.runs_of_sensors()
            if any(run.status in {"FAILURE", "CANCELED"} for run in found):
                raise ProductError(self.log())
            return Counter(run.job for run in found if run.status == "SUCCESS") == jobs

        try:
            wait_until(ended, 2 * RUN_SECONDS, f"end of {jobs}")
        except TimeoutError as error:
            error.add_note(f"there were {[(run.job, run.status, run.tags) for run in found]}")
            raise
        return found

    def sensors(self) -> dict[str, dict[str, Any]]:
        """Each sensor with its description, whether it is on, and its newest ticks."""
        found = self.graphql(_SENSORS, repository=REPOSITORY)["sensorsOrError"]["results"]
        return {sensor["name"]: sensor for sensor in found}

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """A sensor's ticks that have ended, the newest first; none failed."""
        ticks = self.sensors()[sensor]["sensorState"]["ticks"]
        if errors := [tick["error"] for tick in ticks if tick["error"]]:
            raise ProductError(str(errors))
        return [tick for tick in ticks if tick["status"] != "STARTED"]

    def wait_for_ticks(self, count: int, *names: str) -> None:
        """Let every sensor, or the named ones, look so many times more."""
        known = {name: {tick["tickId"] for tick in self.ticks(name)} for name in names or self.sensors()}
        for name, before in known.items():

            def ticked(name: str = name, before: set[str] = before) -> bool:
                return len({tick["tickId"] for tick in self.ticks(name)} - before) >= count

            wait_until(ticked, RUN_SECONDS, f"{count} ticks of {name}")

    def command(self, *arguments: str) -> str:
        """What `boursomatic …` prints, on the same home."""
        command, environment = [executable(), *arguments], {**self.variables, "COLUMNS": "300"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def log(self) -> str:
        """The end of what it has said."""
        return _log(self.home).read_text()[-10_000:]

    def daemon(self) -> psutil.Process | None:
        """The process of Dagster's daemon; None where there is none."""
        for process in processes_of(self.home):
            if DAEMON in readable(process.cmdline):
                return process
        return None

    def kill_daemon(self) -> int:
        """End the daemon with kill -9; the number its process had."""
        daemon = wait_until(self.daemon, START_SECONDS, "daemon")
        with suppress(psutil.NoSuchProcess):
            daemon.kill()
        number: int = daemon.pid
        return number

    def interrupt(self) -> int:
        """Send what Ctrl-C sends; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def remaining(self) -> list[str]:
        """Commands that still run for this home, after those that are about to end had time to."""
        with suppress(TimeoutError):
            wait_until(lambda: not processes_of(self.home), STOP_SECONDS / 2, "end of all processes")
        return [f"{process.pid}: {' '.join(readable(process.cmdline))[:80]}" for process in processes_of(self.home)]


@contextmanager
def running_product(environment: Mapping[str, str] | None = None) -> Iterator[Product]:
    """Start `boursomatic dev` with an empty home and wait for its answer; stop it, and all it may leave.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Settings beside the home.
    """
    with new_home() as home:
        product = Product(home, free_port(), environment or {})
        try:
            product.start()
            yield product
        finally:
            # First what would start the others again.
            for process in sorted(processes_of(home), key=lambda found: found.pid != product.process.pid):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            product.process.wait(STOP_SECONDS)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _start(product: Product) -> subprocess.Popen[bytes]:
    with _log(product.home).open("ab") as log:
        return subprocess.Popen(
            [executable(), "dev", "--port", str(product.port)],
            # Another folder than the checkout: what is started must be the installed package.
            cwd=product.home,
            env=product.variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _log(home: Path) -> Path:
    return home / "dev.log"


def wait_until(condition: Callable[[], T | None], seconds: float, expected: str) -> T:
    """Ask again and again; returns the first answer that is not empty.

    Raises
    ------
    TimeoutError
        If there is none in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            message = f"no {expected} within {seconds:.0f} s"
            raise TimeoutError(message)
        time.sleep(ASKING_SECONDS)
    return found
