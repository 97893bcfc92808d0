"""An HTTP client without a network, whose answers arrive as from one: in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable


def mock_client(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.Client:
    """A client that gets its answers from a function."""

    def streamed(request: httpx.Request) -> httpx.Response:
        reply = answer(request)
        return httpx.Response(reply.status_code, headers=reply.headers, content=iter([reply.content]))

    return httpx.Client(transport=httpx.MockTransport(streamed))
