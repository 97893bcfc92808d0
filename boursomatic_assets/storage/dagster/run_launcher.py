"""Dagster's default run launcher, with a health check for the processes of its runs."""

from __future__ import annotations

import socket

import psutil
from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

# gRPC's status for a server that cannot be reached.
NO_SERVER = "UNAVAILABLE"
# Tag of a run that a command executes: process number, its start, and machine.
PROCESS_TAG = "boursomatic/process"
_SECOND = 1.0


def own_process() -> str:
    """Tag value that identifies this process."""
    process = psutil.Process()
    return f"{process.pid} {process.create_time():.2f} {socket.gethostname()}"


def _has_died(process: str) -> bool:
    """Whether a process of this machine is gone; False for another machine's."""
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
    """Detects that a run's process died together with its code server.

    Dagster's own launcher cannot: such a run would stay "started" until its timeout and block runs behind it.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: the monitoring daemon asks about every started run."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask the run's code server, or look for the process of its command."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            if (process := run.tags.get(PROCESS_TAG)) and _has_died(process):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the command that executed it is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "executed by a command")
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError as error:
            # A server that is only slow must not end a run.
            if NO_SERVER in str(error):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server is busy")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its process is gone")
