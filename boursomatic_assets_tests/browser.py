"""The product as a person meets it: `boursomatic dev` in a process of its own, seen in a headless Chromium."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import pytest
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

HOST = "127.0.0.1"
# Shared machines are slow at times; nothing here waits longer than what it waits for.
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 120, 180, 60
PAGE_MILLISECONDS = 30_000

_CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_SETTINGS, _PREFIXES = ("DATABASE_URL", "ARTIFACTS_DIR"), ("BOURSOMATIC_", "DAGSTER_", "PG")

T = TypeVar("T")
Test = TypeVar("Test", bound="Callable[..., None]")


def in_chromium(test: Test) -> Test:
    """Mark a test that needs the browser.

    Without one it is left out by name; with `BOURSOMATIC_TESTS_COMPLETE` set, as in CI, it fails.
    """
    absent = _chromium() is None and not os.environ.get("BOURSOMATIC_TESTS_COMPLETE")
    # Each reason names its test, so that the summary lists every one instead of their number.
    reason = f"{test.__name__} is left out: there is no Chromium (on Debian: apt-get install chromium)"
    return pytest.mark.browser(pytest.mark.skipif(absent, reason=reason)(test))


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Window:
    """A browser window, and all that its pages asked for or broke on."""

    page: Page
    addresses: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PAGE_MILLISECONDS)
        # Each page opens as it does for a newcomer: the UI remembers which groups were expanded.
        self.page.add_init_script("localStorage.clear()")
        self.page.on("request", lambda request: self.addresses.add(request.url))
        self.page.on("websocket", lambda connection: self.addresses.add(connection.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))


@contextmanager
def open_window() -> Iterator[Window]:
    """A window of a headless Chromium."""
    executable = _chromium()
    if executable is None:
        pytest.fail("there is no Chromium, and BOURSOMATIC_TESTS_COMPLETE lets no test be left out")
    expect.set_options(timeout=PAGE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_CHROMIUM_FLAGS)
        yield Window(browser.new_page())
        browser.close()


@dataclass
class Product:
    """A running `boursomatic dev` with a home of its own."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]

    def address(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.port}{path}"

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def run_ids(self) -> list[str]:
        """Runs, the newest first."""
        found = self.graphql("{ runsOrError { ... on Runs { results { runId } } } }")
        return [run["runId"] for run in found["runsOrError"]["results"]]

    def run_status(self, run_id: str) -> str:
        query = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        return self.graphql(query, id=run_id)["runOrError"]["status"]

    def require_success(self, run_id: str) -> None:
        """Wait for the end of a run, and show the log when it is not a good one."""
        ends = ("SUCCESS", "FAILURE", "CANCELED")
        end = wait_until(
            lambda: next((end for end in ends if end == self.run_status(run_id)), None),
            RUN_SECONDS,
            "end of the run",
        )
        assert end == "SUCCESS", self.log()

    def command(self, *arguments: str) -> str:
        """What `boursomatic …` prints, on the same home."""
        environment = {**_environment(self.home), "COLUMNS": "300"}
        command = [_executable(), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def log(self) -> str:
        return _log(self.home).read_text()[-10_000:]

    def interrupt(self) -> int:
        """Send what Ctrl-C sends; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def remaining(self) -> list[str]:
        """Commands that still run for this home, after those that are about to end had time to."""
        with suppress(TimeoutError):
            wait_until(lambda: not _processes(self.home), STOP_SECONDS / 2, "end of all processes")
        return [f"{process.pid}: {' '.join(_readable(process.cmdline))[:80]}" for process in _processes(self.home)]


@contextmanager
def running_product() -> Iterator[Product]:
    """Start `boursomatic dev` with an empty home and wait for its answer; stop it, and all it may leave."""
    # Short, since the embedded server's socket lies in it and a socket's path may have some 100 characters.
    home = Path(tempfile.mkdtemp(prefix="bm-ui-"))
    port = _free_port()
    product = Product(home, port, _start(home, port))
    try:
        wait_until(lambda: _answers(product), START_SECONDS, "answer of the UI")
        yield product
    finally:
        for process in _processes(home):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        product.process.wait(STOP_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


def _start(home: Path, port: int) -> subprocess.Popen[bytes]:
    with _log(home).open("wb") as log:
        return subprocess.Popen(
            [_executable(), "dev", "--port", str(port)],
            # Another folder than the checkout: what is started must be the installed package.
            cwd=home,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _answers(product: Product) -> bool:
    assert product.process.poll() is None, product.log()
    try:
        return bool(product.graphql("{ version }"))
    except (OSError, http.client.HTTPException):
        return False


def _executable() -> str:
    return str(Path(sys.executable).with_name("boursomatic"))


def _environment(home: Path) -> dict[str, str]:
    """The environment without any setting of the developer's."""
    kept = {
        name: text for name, text in os.environ.items() if name not in _SETTINGS and not name.startswith(_PREFIXES)
    }
    return {**kept, "BOURSOMATIC_HOME": str(home)}


def _log(home: Path) -> Path:
    return home / "dev.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _processes(home: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _mentions(process, home)]


def _mentions(process: psutil.Process, home: Path) -> bool:
    """Whether a process names the home: in its command, its environment, or as the folder it works in."""
    known: list[Callable[[], list[str]]] = [
        process.cmdline,
        lambda: list(process.environ().values()),
        lambda: [process.cwd()],
    ]
    return any(str(home) in text for texts in known for text in _readable(texts))


def _readable(texts: Callable[[], list[str]]) -> list[str]:
    try:
        return texts()
    except psutil.Error:
        # Ended meanwhile, or somebody else's.
        return []


def wait_until(condition: Callable[[], T | None], seconds: float, expected: str) -> T:
    """Ask again and again; returns the first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            message = f"no {expected} within {seconds:.0f} s"
            raise TimeoutError(message)
        time.sleep(0.1)
    return found
