"""Network of an HTTP client with a limit for a whole exchange: the client itself limits only each wait for bytes.

It is a separate module, so that only a fetch pays for the import.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

    import httpx


class TimedNetwork(httpcore.NetworkBackend):
    """Opens connections whose reads and writes end with the limit of the calling thread."""

    def __init__(self) -> None:
        self._network = httpcore.SyncBackend()
        self._limit = threading.local()

    @classmethod
    def of(cls, client: httpx.Client) -> TimedNetwork:
        """Put it into a client that has opened no connection yet."""
        network = cls()
        # No public way in: with a transport of one's own, the client would ignore the proxies of the environment.
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
            pool: Any = getattr(transport, "_pool", None)
            if pool is not None:
                pool._network_backend = network  # noqa: SLF001
        return network

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit everything that this thread sends and receives; beyond it httpx.ReadTimeout is raised."""
        self._limit.seconds, self._limit.end = seconds, time.monotonic() + seconds
        try:
            yield
        finally:
            del self._limit.end

    def wait(self, timeout: float | None) -> float | None:
        """How long the next read or write may wait."""
        end: float | None = getattr(self._limit, "end", None)
        if end is None:
            return timeout
        left = end - time.monotonic()
        if left <= 0:
            message = f"the answer has no end after {self._limit.seconds:g} s"
            raise httpcore.ReadTimeout(message)
        return left if timeout is None else min(timeout, left)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect, within the limit."""
        stream = self._network.connect_tcp(host, port, self.wait(timeout), local_address, socket_options)
        return _TimedStream(stream, self)


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, network: TimedNetwork) -> None:
        self._stream, self._network = stream, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.wait(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.wait(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._network.wait(timeout))
        return _TimedStream(stream, self._network)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (as the base class)
        return self._stream.get_extra_info(info)
