"""The processes of `boursomatic dev` end with it, and no second one starts beside it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.homes import processes_of
from benchmarks.product import running_product
from boursomatic_assets.commands import dev, dev_lock, dev_watch
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets_tests.conftest import ONE_THREAD

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = "http://127.0.0.1:3000"
ENDED_SECONDS = 900


def test_the_watch_reads_which_groups_are_left_and_no_half_line() -> None:
    assert dev_watch.groups_left(io.StringIO("+12\n+345\n-12\n+67")) == {345}


def test_the_watch_asks_first_and_kills_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = "import signal, sys, time\nsignal.signal(signal.SIGINT, {})\nprint(flush=True)\ntime.sleep(600)"
    heeds, ignores = (
        subprocess.Popen(
            [sys.executable, "-c", begin.format(answer)], start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        for answer in ("lambda *_: sys.exit(7)", "signal.SIG_IGN")
    )
    for process in (heeds, ignores):
        assert process.stdout is not None
        process.stdout.readline()
        # A process that has ended is there until somebody has asked for its end.
        threading.Thread(target=process.wait, daemon=True).start()
    # As long as one may take that heeds, and not long for one that never will.
    for process, seconds in ((heeds, ENDED_SECONDS), (ignores, 0.5)):
        monkeypatch.setattr(dev_watch, "ENDING_SECONDS", seconds)
        dev_watch.end({process.pid})
    assert (heeds.wait(), ignores.wait()) == (7, -signal.SIGKILL)
    assert not dev_watch.is_left(heeds.pid)
    for process in (heeds, ignores):
        assert process.stdout is not None
        process.stdout.close()


def test_a_killed_process_takes_its_children_along_and_one_that_had_not_begun_never_begins(tmp_path: Path) -> None:
    # As boursomatic dev starts them: one child that runs, and one of which the watch was not yet told.
    script = f"""
import subprocess, sys, time
watch = subprocess.Popen({dev.WATCH!r}, stdin=subprocess.PIPE, start_new_session=True)
def begin(name):
    command = [*{dev.WATCH!r}, sys.executable, "-c", "import pathlib, time; pathlib.Path('" + name + "').touch(); "
               "time.sleep(600)"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
first, second = begin("first"), begin("second")
watch.stdin.write(f"+{{first.pid}}\\n".encode()); watch.stdin.flush()
first.stdin.write(b"\\n"); first.stdin.close()
print(watch.pid, first.pid, second.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    started = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    deadline = time.monotonic() + ENDED_SECONDS
    while not (tmp_path / "first").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.communicate()
    while any(map(is_alive, started)):
        assert time.monotonic() < deadline, [process.cmdline() for process in started if is_alive(process)]
        time.sleep(0.05)
    assert not (tmp_path / "second").exists()


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_second_one_on_a_home_is_told_which_process_runs_and_where(home: Path) -> None:
    with (
        dev_lock.only_one(home, ADDRESS),
        pytest.raises(ConfigurationError, match=f"process {os.getpid()}: {ADDRESS}\nStop it: kill {os.getpid()}"),
        dev_lock.only_one(home, "http://127.0.0.1:3001"),
    ):
        pytest.fail("two at once")
    with dev_lock.only_one(home, ADDRESS):
        pass


def test_a_lock_left_by_a_killed_one_whose_process_id_went_to_another_program_is_not_believed(home: Path) -> None:
    # Nobody holds it: whatever it says, it is free.
    (home / dev_lock.LOCK).write_text(f"{os.getppid()} 1500000000.00\n{ADDRESS}\n")
    with dev_lock.only_one(home, ADDRESS):
        assert (home / dev_lock.LOCK).read_text() == f"{dev_lock.identity_of(os.getpid())}\n{ADDRESS}\n"


def test_a_home_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file in its place")
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_HOME"), dev_lock.only_one(tmp_path / "home", ADDRESS):
        pytest.fail("a file is no home")


@pytest.mark.slow
def test_after_kill_9_nothing_of_it_lives_on_and_the_next_start_serves() -> None:
    with running_product(ONE_THREAD) as product:
        # While it runs, there is no second one, whatever the port.
        second = subprocess.run(
            [*product.process.args[:-1], "3999"],  # type: ignore[misc]
            env=product.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDED_SECONDS,
        )
        assert second.returncode == 1
        assert f"process {product.process.pid}" in second.stderr
        assert "--port" not in second.stderr
        first = set(_of_dagster(product.home))
        assert len(first) >= 3
        product.process.kill()
        product.process.wait()
        deadline = time.monotonic() + ENDED_SECONDS
        while left := [process for process in first if is_alive(process)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        product.start()
        assert _of_dagster(product.home)
        # Ctrl-C ends it, and all that it has started.
        assert product.interrupt() == 0
        assert product.remaining() == []


def _of_dagster(home: Path) -> list[psutil.Process]:
    """UI, daemon and code server of a home."""
    found = []
    for process in processes_of(home):
        with suppress(psutil.Error):
            if process.name() != "postgres" and "dagster" in " ".join(process.cmdline()):
                found.append(process)
    return found
