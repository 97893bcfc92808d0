"""The product as users run it: `boursomatic dev` in its own process, queried over GraphQL."""

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
# Long, for slow machines; waiting ends as soon as the condition holds.
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 900, 1800, 600
ASKING_SECONDS = 0.5
PORTS = range(20_000, 32_000)
_RESERVATIONS: list[socket.socket] = []
DAEMON = "dagster._daemon"
# Makes sensors tick often.
OFTEN = {"BOURSOMATIC_SENSOR_SECONDS": "6"}
ENDS = ("SUCCESS", "FAILURE", "CANCELED")
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "boursomatic_assets.definitions"}

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
# A far future timestamp: without one, ticks from before the last restart are missing.
_SENSORS = """
query ($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) { ... on Sensors { results {
    name description sensorState { status ticks(limit: 50, beforeTimestamp: 4102444800) {
      tickId status timestamp endTimestamp skipReason error { message } } } } } }
}
"""

T = TypeVar("T")


class ProductError(RuntimeError):
    """The product failed or ended."""


@dataclass(frozen=True)
class RunRecord:
    """A run as the UI shows it; times are seconds since 1970, None if not reached."""

    run_id: str
    job: str
    status: str
    started: float | None
    ended: float | None
    tags: dict[str, str]

    @property
    def is_in_flight(self) -> bool:
        """Whether it has not ended."""
        return self.status not in ENDS


@dataclass
class Product:
    """A running `boursomatic dev` with its own home, and these settings beside the home."""

    home: Path
    port: int
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait until the UI answers and a daemon runs."""
        with (self.home / "dev.log").open("ab") as log:
            self.process = subprocess.Popen(
                [executable(), "dev", "--port", str(self.port)],
                # Not the checkout, so that the installed package is started.
                cwd=self.home,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
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
        """The environment of its commands, without the caller's settings."""
        return environment_at(self.home, self.settings)

    def entered(self) -> AbstractContextManager[None]:
        """Use its environment for this process."""
        return entered(self.variables)

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """Query the UI's interface."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        if "errors" in answer:
            raise ProductError(str(answer["errors"]))
        data: dict[str, Any] = answer["data"]
        return data

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

    def run_status(self, run_id: str) -> str:
        """The state of a run."""
        query = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        status: str = self.graphql(query, id=run_id)["runOrError"]["status"]
        return status

    def launch(self, job: str, config: Mapping[str, Any] | None = None) -> str:
        """Launch a job as the Launchpad does; returns the run's id."""
        made = self.graphql(_LAUNCH, job={**REPOSITORY, "jobName": job}, config=config or {})["launchRun"]
        if made["__typename"] != "LaunchRunSuccess":
            raise ProductError(str(made))
        run_id: str = made["run"]["runId"]
        return run_id

    def end_of(self, run_id: str) -> str:
        """Wait for the end of a run: SUCCESS, FAILURE or CANCELED."""

        def end() -> str | None:
            status = self.run_status(run_id)
            return status if status in ENDS else None

        return wait_until(end, RUN_SECONDS, "end of the run")

    def require_success(self, run_id: str) -> None:
        """Wait for the end of a run; raise with the log if it failed."""
        if self.end_of(run_id) != "SUCCESS":
            raise ProductError(self.log())

    def wait_for_jobs(self, **jobs: int) -> list[RunRecord]:
        """Wait until sensors have started this number of runs of each job, and all have succeeded; returns them."""
        runs: list[RunRecord] = []

        def ended() -> bool:
            runs[:] = self.runs_of_sensors()
            if any(run.status in {"FAILURE", "CANCELED"} for run in runs):
                raise ProductError(self.log())
            return Counter(run.job for run in runs if run.status == "SUCCESS") == jobs

        try:
            wait_until(ended, 2 * RUN_SECONDS, f"end of {jobs}")
        except TimeoutError as error:
            error.add_note(f"there were {[(run.job, run.status, run.tags) for run in runs]}")
            raise
        return runs

    def sensors(self) -> dict[str, dict[str, Any]]:
        """Each sensor with description, state and newest ticks."""
        sensors = self.graphql(_SENSORS, repository=REPOSITORY)["sensorsOrError"]["results"]
        return {sensor["name"]: sensor for sensor in sensors}

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """A sensor's ended ticks, the newest first; raises if one failed."""
        ticks = self.sensors()[sensor]["sensorState"]["ticks"]
        if errors := [tick["error"] for tick in ticks if tick["error"]]:
            raise ProductError(str(errors))
        return [tick for tick in ticks if tick["status"] != "STARTED"]

    def wait_for_ticks(self, count: int, *names: str) -> None:
        """Wait for `count` more ticks of every sensor, or of the named ones."""
        known = {name: {tick["tickId"] for tick in self.ticks(name)} for name in names or self.sensors()}
        for name, before in known.items():

            def ticked(name: str = name, before: set[str] = before) -> bool:
                return len({tick["tickId"] for tick in self.ticks(name)} - before) >= count

            wait_until(ticked, RUN_SECONDS, f"{count} ticks of {name}")

    def command(self, *arguments: str) -> str:
        """Output of `boursomatic …` on the same home."""
        command, environment = [executable(), *arguments], {**self.variables, "COLUMNS": "300"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def log(self) -> str:
        """The end of its log."""
        return (self.home / "dev.log").read_text()[-10_000:]

    def daemon(self) -> psutil.Process | None:
        """The process of Dagster's daemon, if any."""
        for process in processes_of(self.home):
            if DAEMON in readable(process.cmdline):
                return process
        return None

    def kill_daemon(self) -> int:
        """Kill the daemon with kill -9; returns its process number."""
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
        """Commands of processes left for this home, after a while to end."""
        with suppress(TimeoutError):
            wait_until(lambda: not processes_of(self.home), STOP_SECONDS / 2, "end of all processes")
        return [f"{process.pid}: {' '.join(readable(process.cmdline))[:80]}" for process in processes_of(self.home)]


@contextmanager
def running_product(environment: Mapping[str, str] | None = None) -> Iterator[Product]:
    """Start `boursomatic dev` in an empty home with these settings; stop it and all its processes at the end."""
    with new_home() as home:
        product = Product(home, free_port(), environment or {})
        try:
            product.start()
            yield product
        finally:
            # First the process that would restart the others.
            for process in sorted(processes_of(home), key=lambda found: found.pid != product.process.pid):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            product.process.wait(STOP_SECONDS)


def free_port() -> int:
    """A free port, reserved until this process ends.

    It is outside the range from which the system gives ports to connections. The reservation is a socket's name,
    which is unique on the machine.
    """
    for port in PORTS:
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0boursomatic-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
        except OSError:
            reservation.close()
        else:
            _RESERVATIONS.append(reservation)
            return port
    message = f"no port of {PORTS.start} to {PORTS.stop - 1} is free"
    raise ProductError(message)


def wait_until(condition: Callable[[], T | None], seconds: float, expected: str) -> T:
    """Poll until the condition gives a true value, and return it.

    Raises
    ------
    TimeoutError
        If there is none in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            message = f"no {expected} within {seconds:.0f} s"
            raise TimeoutError(message)
        time.sleep(ASKING_SECONDS)
    return value
