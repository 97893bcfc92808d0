"""Runs in processes of their own, as Dagster launches them by default, and whether these are still there."""

from __future__ import annotations

import socket

import psutil
from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

# What gRPC calls a server that nobody can connect to.
NO_SERVER = "UNAVAILABLE"
# By which process of which machine a command executes a run, and when that process began.
PROCESS_TAG = "boursomatic/process"
_SECOND = 1.0


def own_process() -> str:
    """What a run says that this process executes."""
    process = psutil.Process()
    return f"{process.pid} {process.create_time():.2f} {socket.gethostname()}"


def _has_died(process: str) -> bool:
    """Whether a process of this machine is gone; of another machine's nothing is known."""
    pid, began, host = process.split(" ", 2)
    if host != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(pid))
        is_another = abs(found.create_time() - float(began)) > _SECOND
        return is_another or bool(found.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class WatchedRunLauncher(DefaultRunLauncher):
    """Knows when a run's process has died together with the code server that would have reported it.

    Dagster's own launcher asks nobody: such a run would stay "started" until its timeout, and hold up what waits
    for its end.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does: the monitoring daemon asks about every run that is started."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask the server that the run was launched by, or look for the process of the command that executes it."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            if (process := run.tags.get(PROCESS_TAG)) and _has_died(process):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the command that executed it is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "executed by a command")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError as error:
            # One that is only slow to answer on a busy machine must not cost a run.
            if NO_SERVER in str(error):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server is busy")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its process is gone")
