"""Receivers of messages on this machine: a web server and a mail server that can be down, slow, or refuse."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
# A certificate of localhost that signed itself, valid until 2124; its key protects nothing.
CERTIFICATE = Path(__file__).with_name("localhost.pem")


@dataclass
class WebReceiver:
    """What a web server received, and how it answers from now on."""

    port: int = 0
    status: int = 200
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    # Ends every delay.
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/services/T0000/B0000/hush-hush-path"


@contextmanager
def web_receiver(port: int = 0) -> Iterator[WebReceiver]:
    receiver = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.status
            receiver.closing.wait(receiver.delay)
            receiver.seen.append(dict(self.headers.items()))
            if status == 200:
                receiver.bodies.append(json.loads(body))
            # A server that is unkind repeats what it was asked for.
            self.send_response(status, f"no {self.path}" if status != 200 else None)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            receiver.seen.append({"method": "GET"})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):
                # Who waited for the answer has gone.
                self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        # Eight senders knock at once.
        request_queue_size = 64

    with Server((HOST, port), Handler) as server:
        receiver.port = server.server_address[1]
        with _serving(server):
            yield receiver
            receiver.closing.set()


@dataclass
class MailReceiver:
    """What a mail server received, and how it answers."""

    port: int = 0
    offers_starttls: bool = True
    password: str = "hush hush"  # noqa: S105 (of this server alone)
    refuses: tuple[str, ...] = ()
    is_down: bool = False
    delay: float = 0.0
    letters: list[str] = field(default_factory=list)
    receivers: list[list[str]] = field(default_factory=list)
    logins: list[bool] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


class _Conversation(socketserver.BaseRequestHandler):
    """As much SMTP as handing in a letter takes."""

    server: _MailServer

    def setup(self) -> None:
        self.receiver = self.server.receiver
        self.connection, self.is_protected = self.request, False
        self.lines = self.connection.makefile("rb")
        self.accepted: list[str] = []

    def handle(self) -> None:
        try:
            if self.server.is_tls:
                self.protect()
            if self.receiver.is_down:
                self.say("421 down for maintenance")
                return
            self.receiver.closing.wait(self.receiver.delay)
            self.say("220 localhost")
            while (line := self.lines.readline()) and self.answer(line.decode().strip()):
                pass
        except OSError:
            # A client that does not like the certificate hangs up.
            return

    def finish(self) -> None:
        self.lines.close()
        self.connection.close()

    def say(self, line: str) -> None:
        self.connection.sendall(f"{line}\r\n".encode())

    def protect(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self.lines.close()
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.lines = self.connection.makefile("rb")
        self.is_protected = True

    def answer(self, line: str) -> bool:
        verb = line.partition(" ")[0].upper()
        answers = {
            "EHLO": self.ehlo,
            "STARTTLS": self.starttls,
            "AUTH": self.auth,
            "RCPT": self.rcpt,
            "DATA": self.data,
        }
        if verb in answers:
            answers[verb](line)
        else:
            self.say("221 bye" if verb == "QUIT" else "250 ok")
        return verb != "QUIT"

    def ehlo(self, _line: str) -> None:
        offers = ["STARTTLS"] if self.receiver.offers_starttls and not self.is_protected else []
        self.say("\r\n".join(["250-localhost", *(f"250-{offer}" for offer in offers), "250 AUTH PLAIN"]))

    def starttls(self, _line: str) -> None:
        self.say("220 go ahead")
        self.protect()

    def auth(self, line: str) -> None:
        given = base64.b64decode(line.split()[2]).decode().split("\0")[2]
        self.receiver.logins.append(self.is_protected)
        # A server that is unkind repeats what it was told.
        self.say("235 welcome" if given == self.receiver.password else f"535 {given} is wrong")

    def rcpt(self, line: str) -> None:
        address = line.partition("<")[2].rpartition(">")[0]
        is_known = address not in self.receiver.refuses
        self.say("250 ok" if is_known else "550 unknown")
        self.accepted += [address] if is_known else []

    def data(self, _line: str) -> None:
        self.say("354 go on")
        text = b"".join(iter(self.lines.readline, b".\r\n"))
        self.receiver.letters.append(text.decode())
        self.receiver.receivers.append(self.accepted)
        self.say("250 taken")


class _MailServer(socketserver.ThreadingTCPServer):
    request_queue_size = 64

    def __init__(self, receiver: MailReceiver, *, is_tls: bool) -> None:
        self.receiver, self.is_tls = receiver, is_tls
        super().__init__((HOST, 0), _Conversation)


@contextmanager
def mail_receiver(*, is_tls: bool = False) -> Iterator[MailReceiver]:
    """Stand in for a mail server, protected by STARTTLS or from the start."""
    receiver = MailReceiver()
    with _MailServer(receiver, is_tls=is_tls) as server:
        receiver.port = server.server_address[1]
        with _serving(server):
            yield receiver
            receiver.closing.set()


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
