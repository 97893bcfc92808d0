"""What the guard in front of the Dagster UI lets through, request by request."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from boursomatic_assets.commands.dev import Address, _require_guarded
from boursomatic_assets.commands.web_guard import Access, WebGuard, access_to
from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from starlette.types import Receive, Scope, Send

OWN = {"host": "127.0.0.1:3000"}
JSON = {**OWN, "content-type": "application/json"}
ELSEWHERE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
WINDOW, FRAME = ({**ELSEWHERE, "sec-fetch-dest": place} for place in ("document", "iframe"))
PASSWORD = "pass:wörd"  # noqa: S105 (of these tests)
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 (nothing listens)
PAGE = {**OWN, "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}


def request(method: str, path: str, headers: dict[str, str], kind: str = "http") -> Scope:
    place, _, query = path.partition("?")
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "method": method, "path": place, "query_string": query.encode(), "headers": raw}


def status(scope: Scope, access: Access | None = None) -> int | None:
    refusal = (access or Access()).refusal(scope)
    return refusal[0] if refusal else None


@pytest.mark.parametrize(
    "scope",
    [
        request("GET", "/", OWN),
        request("GET", "/assets/labels", {**OWN, "sec-fetch-site": "none"}),
        request("HEAD", "/server_info", {"host": "localhost:3000"}),
        request("GET", "/", {"host": "[::1]:3000"}),
        request("GET", "/", {"host": "LOCALHOST"}),
        # A program sends neither Origin nor Sec-Fetch-Site.
        request("POST", "/graphql", JSON),
        request("POST", "/graphql", {**PAGE, "content-type": "application/json; charset=utf-8"}),
        # GraphiQL, a page that runs nothing by itself.
        request("GET", "/graphql", OWN),
        # A link in an e-mail.
        request("GET", "/runs/1", {**OWN, **WINDOW}),
        {**request("GET", "/graphql", PAGE, "websocket")},
    ],
)
def test_access_lets_the_ui_its_user_and_programs_pass(scope: Scope) -> None:
    assert status(scope) is None


@pytest.mark.parametrize(
    ("expected", "scope"),
    [
        # A name of the attacker that resolves to this machine (DNS rebinding), malformed or doubled Host headers.
        (403, request("GET", "/", {"host": "evil.example:3000"})),
        (403, request("GET", "/", {"host": "127.0.0.1.evil.example"})),
        (403, request("GET", "/", {"host": "evil.example@127.0.0.1"})),
        (403, request("GET", "/", {"host": "127.0.0.1:port"})),
        (403, request("GET", "/", {"host": "127.0.0.1/evil.example"})),
        (403, request("GET", "/", {"host": ""})),
        (403, request("GET", "/", {})),
        (403, {**request("GET", "/", OWN), "headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}),
        # Another page: of another machine, of another port, sandboxed.
        (403, request("POST", "/graphql", {**JSON, "origin": "https://evil.example"})),
        (403, request("POST", "/graphql", {**JSON, "origin": "http://127.0.0.1:3001"})),
        (403, request("POST", "/graphql", {**JSON, "origin": "http://localhost:3000"})),
        (403, request("POST", "/graphql", {**JSON, "origin": "null"})),
        (403, request("GET", "/server_info", {**OWN, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"})),
        (403, request("GET", "/", {**OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"})),
        # Framed, and a form that is submitted into a window.
        (403, request("GET", "/", {**OWN, **FRAME})),
        (403, request("POST", "/graphql", {**JSON, **WINDOW})),
        (403, request("GET", "/graphql", {**OWN, "origin": "https://evil.example"}, "websocket")),
        (403, request("GET", "/graphql", {"host": "evil.example"}, "websocket")),
        # Queries where a link or an image can send them, with any spelling of the parameter.
        (405, request("GET", "/graphql?query=mutation", PAGE)),
        (405, request("GET", "/graphql/?%71uery=mutation", PAGE)),
        (405, request("GET", "/prefix/graphql?query=", PAGE)),
        (405, request("PUT", "/graphql2", JSON)),
        (405, request("DELETE", "/", JSON)),
        # What a form or a page without permission can send.
        (415, request("POST", "/graphql", OWN)),
        (415, request("POST", "/graphql", {**OWN, "content-type": "text/plain; application/json"})),
        (415, request("POST", "/graphql", {**OWN, "content-type": "application/graphql"})),
        (415, request("OPTIONS", "/graphql", OWN)),
        (403, request("POST", "/report_asset_materialization/labels", JSON)),
        (403, request("POST", "/prefix/report_asset_check/labels", JSON)),
    ],
)
def test_access_refuses_what_another_page_can_send(expected: int, scope: Scope) -> None:
    assert status(scope) == expected


def test_access_takes_reports_as_json_where_they_are_switched_on() -> None:
    on = Access(takes_reports=True)
    assert status(request("POST", "/report_asset_observation/labels", JSON), on) is None
    assert status(request("POST", "/report_asset_observation/labels", OWN), on) == 415


def basic(text: str) -> dict[str, str]:
    return {**OWN, "authorization": f"Basic {b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (None, basic("anyone:pass:wörd")),
        (None, basic(":pass:wörd")),
        (401, basic("anyone:pass")),
        (401, basic("pass:wörd")),
        (401, basic("anyone:")),
        (401, {**OWN, "authorization": "Basic %%%"}),
        (401, {**OWN, "authorization": "Bearer pass:wörd"}),
        (401, OWN),
        # Who may not ask at all is not asked for a password.
        (403, {**basic("anyone:pass:wörd"), "host": "evil.example"}),
    ],
)
def test_access_asks_for_the_password(expected: int | None, headers: dict[str, str]) -> None:
    assert status(request("GET", "/", headers), Access(password=PASSWORD)) == expected
    assert status(request("GET", "/graphql", headers, "websocket"), Access(password=PASSWORD)) == expected


def test_access_to_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_UI_URL", "https://ui.example:8443/dagster")
    monkeypatch.setenv("BOURSOMATIC_UI_HOSTS", "Prices.example, 10.0.0.7")
    monkeypatch.setenv("BOURSOMATIC_UI_PASSWORD", PASSWORD)
    monkeypatch.setenv("BOURSOMATIC_UI_REPORTS", "1")
    access = access_to(ALL_ADDRESSES)
    assert access.hosts == {"127.0.0.1", "localhost", "::1", "ui.example", "prices.example", "10.0.0.7"}
    assert access.origins == {"https://ui.example:8443"}
    assert (access.password, access.takes_reports) == (PASSWORD, True)
    # A proxy with TLS may hand on its own Host header or that of the server behind it.
    for host in ("ui.example:8443", "127.0.0.1:3000"):
        scope = request("GET", "/", {**basic(f":{PASSWORD}"), "host": host, "origin": "https://ui.example:8443"})
        assert status(scope, access) is None


@pytest.mark.parametrize("address", [ALL_ADDRESSES, "::", "192.0.2.1"])
def test_access_to_requires_a_password_where_other_machines_can_reach_the_ui(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access_to("127.0.0.1").password is None
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_UI_PASSWORD"):
        access_to(address)
    monkeypatch.setenv("BOURSOMATIC_UI_PASSWORD", PASSWORD)
    assert access_to(address).password == PASSWORD


def answers(scope: Scope, access: Access) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": f"{scope['type']}.response.start", "status": 200, "headers": []})

    asyncio.run(WebGuard(app, access)(scope, receive, send))
    return sent


def test_web_guard_answers_in_the_protocol_of_the_request() -> None:
    passed, refused, asked = (
        answers(request("GET", "/", headers), Access(password=password))[0]
        for headers, password in ((OWN, None), ({"host": "evil.example"}, None), (OWN, "x"))
    )
    assert (passed["status"], refused["status"], asked["status"]) == (200, 403, 401)
    assert (b"x-frame-options", b"DENY") in passed["headers"]
    assert any(name == b"www-authenticate" for name, _ in asked["headers"])
    closed = answers(request("GET", "/graphql", {"host": "evil.example"}, "websocket"), Access())
    assert [message["type"] for message in closed] == ["websocket.close"]
    assert answers({"type": "lifespan"}, Access())[0]["type"] == "lifespan.response.start"


@pytest.fixture(params=[200, 403])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, Address]]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = Thread(target=served.serve_forever)
        thread.start()
        yield request.param, Address("127.0.0.1", served.server_port)
        served.shutdown()
        thread.join()


def test_dev_stops_if_the_ui_is_not_guarded(server: tuple[int, Address]) -> None:
    status, address = server
    assert address.answers()
    if status == 403:
        _require_guarded(address)
    else:
        with pytest.raises(ConfigurationError, match="without the guard"):
            _require_guarded(address)
