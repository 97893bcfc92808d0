"""A webhook whose receiver is down when a run fails: the message waits, arrives once, and disturbs no run."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from benchmarks.product import HOST, RUN_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.product import Product

WEBHOOK = "BOURSOMATIC_NOTICE_WEBHOOK"
# The job fails without an active model, and succeeds with one.
JOB, ASSET, CAUSE = "recommend", "recommendations", "no model version is active"
OK = 200


@dataclass
class LateDelivery:
    """A message whose receiver was down: attempts before, seconds from the receiver's start, messages received."""

    attempts: int = 0
    seconds_to_arrive: float = 0.0
    failures: int = 0
    recoveries: int = 0
    broken: list[str] = field(default_factory=list)


def webhook_at(port: int) -> dict[str, str]:
    """Settings that send messages to a port of this machine."""
    return {WEBHOOK: f"http://{HOST}:{port}/boursomatic"}


class SilentReceiver:
    """A receiver that is down at first, on a port of this machine. The product has no active model yet."""

    def __init__(self, product: Product, port: int) -> None:
        self.product, self.port, self.found = product, port, LateDelivery()
        self.bodies: list[dict[str, Any]] = []
        self.run_id = ""

    def fail(self) -> None:
        """Let a run fail while the receiver is down."""
        # Failures before the sensor's first tick are not told.
        self.product.wait_for_ticks(1, "failure_notices")
        self.run_id = self.product.launch(JOB)
        if (end := self.product.end_of(self.run_id)) != "FAILURE":
            self.found.broken.append(f"the run that had to fail ended with {end}")

    def wait_until_tried(self) -> None:
        """Wait for a failed attempt to deliver the message."""
        # Each query is a slow command: wait for the sensor first.
        self.product.wait_for_ticks(1, "failure_notices")
        wait_until(lambda: self._tried() > 0, RUN_SECONDS, "attempt to deliver")
        self.found.attempts = self._tried()

    def _tried(self) -> int:
        waiting = json.loads(self.product.command("notices", "list", "--waiting", "--json"))
        return max((int(notice["attempts"]) for notice in waiting), default=0)

    def wait_for_failure(self) -> None:
        """Wait for the message, with the receiver up."""
        began = time.monotonic()
        wait_until(lambda: self.bodies, RUN_SECONDS, "message about the failure")
        self.found.seconds_to_arrive = time.monotonic() - began
        # A recovery may follow at once; the total is checked at the end.
        told = self.bodies[0]
        expected = {"kind": "failure", "asset": ASSET, "run_url": self.product.address(f"/runs/{self.run_id}")}
        self.found.broken += [
            f"the message says {name} {told.get(name)!r}, not {what!r}"
            for name, what in expected.items()
            if told.get(name) != what
        ]
        if CAUSE not in str(told.get("cause")):
            self.found.broken.append(f"the message does not say the cause: {told}")

    def wait_for_recovery(self) -> None:
        """Wait for the message about the recovery; there must be no others."""
        wait_until(lambda: len(self.bodies) > 1, RUN_SECONDS, "message about the recovery")
        # Other messages would arrive by the next tick.
        self.product.wait_for_ticks(1, "failure_notices")
        kinds = [body["kind"] for body in self.bodies]
        self.found.failures, self.found.recoveries = kinds.count("failure"), kinds.count("recovery")
        if kinds != ["failure", "recovery"]:
            self.found.broken.append(f"the receiver was told {kinds}")
        if self.product.run_status(self.run_id) != "FAILURE":
            self.found.broken.append("the failed run has another end now")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive messages."""
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(OK)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer((HOST, self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
