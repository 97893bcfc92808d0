"""HTTP requests that keep secrets out of logs, messages, and redirects to another host."""

from __future__ import annotations

import json
import logging
import weakref
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.errors import SourceFailedError
from boursomatic_assets.providers.fetching import require_installed, start_of, through
from boursomatic_assets.providers.limits import SECONDS_IN_ALL, SECONDS_TO_ANSWER, require_few_parts, unpacked
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError
from boursomatic_assets.settings.hiding import hide

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import httpx

    from boursomatic_assets.settings import Settings

MOST_REDIRECTS = 5
# A shorter secret may be a part of a price; reports hide it.
SHORTEST_IN_ANSWERS = 8
# Tiingo's hourly, daily and monthly quota (any status) and EODHD's daily one: a short wait does not help.
ALLOWANCE_SPENT = ("you have run over your", "exceeded your daily api requests limit")
MOST_WORDS = 500


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose text does not contain a secret, except a very short one."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == 2  # noqa: PLR2004

    def rows(self) -> list[dict[str, Any]]:
        """Parse a JSON array of objects; raises PassingFailureError for any other text."""
        try:
            rows = json.loads(self.text)
        except (ValueError, RecursionError) as error:
            message = f"answered {self.status}, expected JSON; found {start_of(self.text)}"
            raise PassingFailureError(message) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            message = f"expected a JSON array of objects; found {start_of(self.text)}"
            raise PassingFailureError(message)
        return rows


class Web:
    """HTTP client of one source. It limits the request rate and may use a gateway.

    `client` must not follow redirects and has opened no connection yet; `secrets` are hidden.
    """

    def __init__(
        self, client: httpx.Client, pace: Pace, gateway: str | None = None, secrets: Collection[str] = ()
    ) -> None:
        from boursomatic_assets.providers.timed_network import TimedNetwork

        self._client, self._pace, self._gateway, self._secrets = client, pace, gateway, secrets
        self._long_secrets = [secret for secret in secrets if len(secret) >= SHORTEST_IN_ANSWERS]
        self._network = TimedNetwork.of(client)
        # These libraries log each URL with its query, which may hold the key.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request in its turn.

        Raises PassingFailureError if the source cannot be reached, answers too slowly, or answers 429 or 5xx;
        SourceFailedError if it answers too much, its quota is used up, or it redirects to another host.
        """
        import httpx

        sent = {"Accept-Encoding": "gzip", **(headers or {})}
        request = self._client.build_request("GET", through(self._gateway, url), params=dict(query), headers=sent)
        try:
            return self._followed(request)
        except httpx.HTTPError as error:
            # The chained error would show the URL, which may hold the key.
            raise PassingFailureError(self._hidden(f"{type(error).__name__}: {error}")) from None

    def _followed(self, request: httpx.Request) -> Answer:
        """Answer after redirects within the requested host."""
        first = request.url
        for _ in range(MOST_REDIRECTS):
            self._pace.take_turn()
            response, text = self._received(request)
            if any(words in text[:MOST_WORDS].lower() for words in ALLOWANCE_SPENT):
                message = f"allows no more requests for now: {start_of(text)}"
                raise SourceFailedError(message)
            self._pace.heed(response.status_code, response.headers.get("Retry-After"))
            following = response.next_request
            if following is None:
                return Answer(response.status_code, text)
            place = (following.url.scheme, following.url.host, following.url.port)
            if place != (first.scheme, first.host, first.port):
                message = f"redirects to another host, {following.url.host}; it is not asked there"
                raise SourceFailedError(message)
            request = following
        message = f"redirects more than {MOST_REDIRECTS} times"
        raise SourceFailedError(message)

    def _received(self, request: httpx.Request) -> tuple[httpx.Response, str]:
        with self._network.within(SECONDS_IN_ALL), closing(self._client.send(request, stream=True)) as response:
            body = unpacked(response.iter_raw(), response.headers.get("Content-Encoding", ""))
        text = body.decode(errors="replace")
        require_few_parts(text)
        return response, hide(text, self._long_secrets)

    def _hidden(self, text: str) -> str:
        return hide(text, self._secrets)


def web_of(settings: Settings, requests_per_second: float) -> Web:
    """Client for one source, with the gateway and rate of the settings.

    Raises ConfigurationError if the extra `yahoo`, which holds the HTTP client, is not installed.
    """
    require_installed("httpx", "tenacity")
    import httpx

    client = httpx.Client(timeout=SECONDS_TO_ANSWER, follow_redirects=False)
    web = Web(client, Pace(settings.requests_per_second or requests_per_second), settings.gateway, settings.secrets)
    weakref.finalize(web, client.close)
    return web
