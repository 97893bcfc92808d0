"""Requests over HTTP that keep a key to themselves: out of logs, messages, and redirects to another host."""

from __future__ import annotations

import json
import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from boursomatic_assets.errors import SourceFailedError
from boursomatic_assets.providers.fetching import require_installed, start_of, through
from boursomatic_assets.providers.patience import Pace, PassingFailureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from boursomatic_assets.settings import Settings

SECONDS_TO_ANSWER = 20.0
MOST_REDIRECTS = 5
HIDDEN = "***"
# Said by Tiingo for an hour, a day or a month, with any status, and by EODHD for a day: no wait of seconds helps.
ALLOWANCE_SPENT = ("you have run over your", "exceeded your daily api requests limit")
MOST_WORDS = 500


@dataclass(frozen=True)
class Answer:
    """An HTTP answer without the key, wherever the source repeats it."""

    status: int
    text: str

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == 2  # noqa: PLR2004

    def rows(self) -> list[dict[str, Any]]:
        """Read a JSON array of objects.

        Raises
        ------
        PassingFailureError
            If it is none.
        """
        try:
            rows = json.loads(self.text)
        except ValueError as error:
            message = f"answered {self.status}, expected JSON; found {start_of(self.text)}"
            raise PassingFailureError(message) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            message = f"expected a JSON array of objects; found {start_of(self.text)}"
            raise PassingFailureError(message)
        return rows


class Web:
    """Paced requests to one source, perhaps through a gateway.

    Parameters
    ----------
    client : httpx.Client
        One that follows no redirects by itself.
    pace : Pace
    gateway : str, optional
        Address through which the source is reached.
    key : str, optional
        Secret that requests carry.
    """

    def __init__(
        self, client: httpx.Client, pace: Pace, gateway: str | None = None, key: str | None = None
    ) -> None:
        self._client, self._pace, self._gateway = client, pace, gateway
        # They log each address with its query, and a key may be in it.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # The longest spelling first: one may contain another.
        self._spellings = sorted({key, quote(key, safe=""), quote_plus(key)}, key=len, reverse=True) if key else []

    def get(self, url: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Ask in turn.

        Raises
        ------
        PassingFailureError
            If the source cannot be reached, or answers 429 or 5xx.
        SourceFailedError
            If it allows no more requests for now, or sends the request on to another host.
        """
        import httpx

        request = self._client.build_request(
            "GET", through(self._gateway, url), params=dict(query), headers=dict(headers or {})
        )
        try:
            response = self._followed(request)
        except httpx.HTTPError as error:
            # The chained error would name the address, and with it the key.
            raise PassingFailureError(self._hidden(f"{type(error).__name__}: {error}")) from None
        return Answer(response.status_code, self._hidden(response.text))

    def _followed(self, request: httpx.Request) -> httpx.Response:
        """The answer at the end of redirects within the host that was asked."""
        first = request.url
        for _ in range(MOST_REDIRECTS):
            self._pace.take_turn()
            response = self._client.send(request)
            if any(words in response.text[:MOST_WORDS].lower() for words in ALLOWANCE_SPENT):
                message = f"allows no more requests for now: {start_of(self._hidden(response.text))}"
                raise SourceFailedError(message)
            self._pace.heed(response.status_code, response.headers.get("Retry-After"))
            following = response.next_request
            if following is None:
                return response
            place = (following.url.scheme, following.url.host, following.url.port)
            if place != (first.scheme, first.host, first.port):
                message = f"redirects to another host, {following.url.host}; it is not asked there"
                raise SourceFailedError(message)
            request = following
        message = f"redirects more than {MOST_REDIRECTS} times"
        raise SourceFailedError(message)

    def _hidden(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, HIDDEN)
        return text


def web_of(settings: Settings, requests_per_second: float, key: str | None = None) -> Web:
    """Build requests at the settings' gateway and rate.

    Raises
    ------
    ConfigurationError
        If the extra `yahoo`, which holds the HTTP client, is not installed.
    """
    require_installed("httpx", "tenacity")
    import httpx

    client = httpx.Client(timeout=SECONDS_TO_ANSWER, follow_redirects=False)
    web = Web(client, Pace(settings.requests_per_second or requests_per_second), settings.gateway, key)
    weakref.finalize(web, client.close)
    return web
