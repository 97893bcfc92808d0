"""Access guard of the Dagster UI: its own pages and programs may use it, other web pages may not."""

import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import WebSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not bound)
READING = frozenset({"GET", "HEAD"})
FORBIDDEN, NOT_ALLOWED, UNAUTHORIZED, UNSUPPORTED = 403, 405, 401, 415
POLICY_VIOLATED = 1008


@dataclass(frozen=True)
class Access:
    """Who may use the UI.

    `hosts` are the host names, without a port, under which browsers may open it. `origins` are allowed besides that
    of the request's own Host, such as that of a proxy with TLS. `password` is asked for by HTTP Basic
    authentication, with any user name. `takes_reports` lets programs report materializations, observations and
    checks over HTTP.
    """

    hosts: frozenset[str] = LOOPBACK
    origins: frozenset[str] = frozenset()
    password: str | None = None
    takes_reports: bool = False

    def refusal(self, scope: "Scope") -> tuple[int, str] | None:
        """Status and reason of a refused request; None for one that passes."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or _host_name(host) not in self.hosts:
            return FORBIDDEN, "This host name is not allowed. Name it in BOURSOMATIC_UI_HOSTS."
        if not self._is_own_page(headers, host) or not _is_own_fetch(headers, scope):
            return FORBIDDEN, "Requests of other web pages are not allowed."
        if self.password is not None and not _has_password(headers, self.password):
            return UNAUTHORIZED, "A password is needed."
        if scope["type"] == "http":
            return self._request_refusal(scope, headers)
        return None

    def _is_own_page(self, headers: Headers, host: str) -> bool:
        own = {f"http://{host}", f"https://{host}", *self.origins}
        return all(origin in own for origin in headers.getlist("origin"))

    def _request_refusal(self, scope: "Scope", headers: Headers) -> tuple[int, str] | None:
        parts = scope["path"].strip("/").split("/")
        if scope["method"] in READING:
            # Without a query, /graphql is a page; with one it would run it, mutations too.
            parameters = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            has_query = parts[-1] == "graphql" and "query" in parameters
            return (NOT_ALLOWED, "Send queries by POST.") if has_query else None
        is_report = any(part.startswith("report_asset_") for part in parts)
        if not is_report and parts[-1] != "graphql":
            return NOT_ALLOWED, "Only /graphql takes this method."
        if is_report and not self.takes_reports:
            return FORBIDDEN, "Reports over HTTP are off. Switch them on by BOURSOMATIC_UI_REPORTS=1."
        return None if _is_json(headers) else (UNSUPPORTED, "Send application/json.")


class WebGuard:
    """ASGI middleware: refuses what `Access` refuses, and forbids other pages to frame the UI."""

    def __init__(self, app: "ASGIApp", access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, or hand it on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._access.refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATED, "reason": refusal[1]})
        else:
            await _answer(*refusal)(scope, receive, send)


def _answer(status: int, reason: str) -> PlainTextResponse:
    asked = {"WWW-Authenticate": 'Basic realm="Boursomatic", charset="UTF-8"'} if status == UNAUTHORIZED else {}
    return PlainTextResponse(f"{reason}\n", status, headers={"Cache-Control": "no-store", **asked})


def _unframed(send: "Send") -> "Send":
    async def with_header(message: "Message") -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
        await send(message)

    return with_header


def _host_name(host: str) -> str | None:
    """Name of a Host header without its port; None if it is malformed."""
    try:
        url = urlsplit(f"//{host}")
        _ = url.port
    except ValueError:
        return None
    return url.hostname if url.netloc == host and "@" not in host else None


def _is_own_fetch(headers: Headers, scope: "Scope") -> bool:
    """Whether the browser attributes the request to the UI or its user; programs send no such header.

    A link from elsewhere, such as a notice, may open a page: it navigates a whole window, by GET.
    """
    if set(headers.getlist("sec-fetch-site")) <= {"same-origin", "none"}:
        return True
    opens_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return opens_page and scope.get("method") == "GET"


def _is_json(headers: Headers) -> bool:
    """Whether the body is declared as JSON alone: no form and no page without permission can declare it so."""
    types = {given.split(";")[0].strip().lower() for given in headers.getlist("content-type")}
    return types == {"application/json"}


def _has_password(headers: Headers, password: str) -> bool:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = b64decode(encoded, validate=True).partition(b":")[2]
    except (Base64Error, ValueError):
        return False
    return secrets.compare_digest(given, password.encode())


def access_to(address: str) -> Access:
    """Access as the environment sets it, for a server that listens on the address.

    Raises ConfigurationError if other machines can reach the address and no password is set.
    """
    settings = WebSettings.from_environment()
    if address not in LOOPBACK and settings.password is None:
        message = (
            f"other machines can reach the address {address}, and the UI has no password. "
            "Set BOURSOMATIC_UI_PASSWORD, or leave out --host"
        )
        raise ConfigurationError(message)
    public = urlsplit(settings.url)
    named = {*map(str.lower, settings.hosts), public.hostname or "", address} - {"", *EVERY_ADDRESS}
    origins = frozenset({f"{public.scheme}://{public.netloc}"})
    return Access(LOOPBACK | named, origins, settings.password, takes_reports=settings.takes_reports)
