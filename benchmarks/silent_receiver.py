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
# Without an active model it must fail, and with one it succeeds again.
JOB, ASSET, CAUSE = "recommend", "recommendations", "no model version is active"
OK = 200


@dataclass
class Told:
    """What became of a message whose receiver was down.

    Attributes
    ----------
    attempts : int
        To deliver it while nobody listened.
    seconds_to_arrive : float
        From the start of the receiver.
    failures, recoveries : int
        Messages that arrived.
    broken : list of str
        Promises that did not hold.
    """

    attempts: int = 0
    seconds_to_arrive: float = 0.0
    failures: int = 0
    recoveries: int = 0
    broken: list[str] = field(default_factory=list)


def webhook_at(port: int) -> dict[str, str]:
    """Settings by which messages go to a port of this machine."""
    return {WEBHOOK: f"http://{HOST}:{port}/boursomatic"}


class SilentReceiver:
    """A receiver that is down at first, and what is expected of messages meanwhile.

    Parameters
    ----------
    product : Product
        Its messages go to the port; no model is active yet.
    port : int
        On which nobody listens.
    """

    def __init__(self, product: Product, port: int) -> None:
        self.product, self.port, self.found = product, port, Told()
        self.bodies: list[dict[str, Any]] = []
        self.run_id = ""

    def fail(self) -> None:
        """Let a run fail while the receiver is down. Its own end is not another for that."""
        # What failed before the first look is not told.
        self.product.wait_for_ticks(1, "failure_notices")
        self.run_id = self.product.launch(JOB)
        if (end := self.product.end_of(self.run_id)) != "FAILURE":
            self.found.broken.append(f"the run that had to fail ended with {end}")

    def wait_until_tried(self) -> None:
        """Wait until the message was tried to be delivered, in vain."""
        # To ask is a command each time: only once the sensor has looked.
        self.product.wait_for_ticks(1, "failure_notices")
        wait_until(lambda: self._tried() > 0, RUN_SECONDS, "attempt to deliver")
        self.found.attempts = self._tried()

    def _tried(self) -> int:
        waiting = json.loads(self.product.command("notices", "list", "--waiting", "--json"))
        return max((int(notice["attempts"]) for notice in waiting), default=0)

    def wait_for_failure(self) -> None:
        """Wait until the message arrives, now that the receiver is there."""
        began = time.monotonic()
        wait_until(lambda: self.bodies, RUN_SECONDS, "message about the failure")
        self.found.seconds_to_arrive = time.monotonic() - began
        # A recovery may follow at once; how many came in all is told at the end.
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
        """Wait for the message that what failed has succeeded; the receiver has had nothing else."""
        wait_until(lambda: len(self.bodies) > 1, RUN_SECONDS, "message about the recovery")
        # Whatever else might come would come by the next looks.
        self.product.wait_for_ticks(1, "failure_notices")
        kinds = [body["kind"] for body in self.bodies]
        self.found.failures, self.found.recoveries = kinds.count("failure"), kinds.count("recovery")
        if kinds != ["failure", "recovery"]:
            self.found.broken.append(f"the receiver was told {kinds}")
        if self.product.run_status(self.run_id) != "FAILURE":
            self.found.broken.append("the failed run has another end now")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be there."""
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
