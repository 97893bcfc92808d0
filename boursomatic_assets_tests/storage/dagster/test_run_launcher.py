"""What the instance is set to, and how a run is found whose process is gone with its code server."""

from __future__ import annotations

import json
import subprocess
import sys

import dagster as dg
import psutil
import pytest
from dagster._core.instance.config import PoolGranularity
from dagster._core.launcher.base import WorkerStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import GrpcServerProcess

from boursomatic_assets.definitions import defs
from boursomatic_assets.storage.dagster.run_launcher import PROCESS_TAG, WatchedRunLauncher, own_process


def status(instance: dg.DagsterInstance, process: str | None = None, **server: str) -> WorkerStatus:
    @dg.job
    def nothing() -> None:
        pass

    tags = {".dagster/grpc_info": json.dumps({"host": "localhost", **server})} if server else {}
    tags |= {PROCESS_TAG: process} if process else {}
    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags)
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run).status


def test_health_of_a_run_without_a_process_tag(instance: dg.DagsterInstance) -> None:
    assert status(instance) is WorkerStatus.RUNNING


def test_health_of_a_run_executed_by_a_command(instance: dg.DagsterInstance) -> None:
    pid, began, host = own_process().split(" ", 2)
    assert status(instance, f"{pid} {began} {host}") is WorkerStatus.RUNNING
    # The process number was reused.
    assert status(instance, f"{pid} {float(began) - 60} {host}") is WorkerStatus.NOT_FOUND
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        began = str(psutil.Process(child.pid).create_time())
        assert status(instance, f"{child.pid} {began} {host}") is WorkerStatus.RUNNING
        child.kill()
    assert status(instance, f"{child.pid} {began} {host}") is WorkerStatus.NOT_FOUND
    assert status(instance, f"{child.pid} {began} another-machine") is WorkerStatus.RUNNING


def test_health_of_a_run_whose_code_server_is_gone(instance: dg.DagsterInstance) -> None:
    assert status(instance, socket="/nowhere/socket") is WorkerStatus.NOT_FOUND


@pytest.mark.slow
def test_health_of_a_run_unknown_to_its_code_server(instance: dg.DagsterInstance) -> None:
    target = LoadableTargetOrigin(module_name="boursomatic_assets.definitions", working_directory=None)
    server = GrpcServerProcess(instance.get_ref(), loadable_target_origin=target, wait_on_exit=True)
    with server:
        assert server.socket is not None
        assert status(instance, socket=server.socket) is WorkerStatus.NOT_FOUND


def test_instance_retries_dead_runs_only(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_runtime_seconds == 6 * 60 * 60
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert not instance.run_retries_retry_on_asset_or_op_failure


def test_training_jobs_alone_share_a_pool(instance: dg.DagsterInstance) -> None:
    pools = instance.get_concurrency_config().pool_config
    assert (pools.pool_granularity, pools.default_pool_limit) == (PoolGranularity.RUN, 1)
    taking_turns = {
        job.name
        for job in defs.jobs or []
        if any(node.definition.pools for node in defs.resolve_job_def(job.name).nodes)
    }
    assert taking_turns == {"retrain", "whole_graph", "whole_graph_isolated"}
