"""HTTP session for `yfinance`: paced, optionally through a gateway, with Yahoo's answers checked.

`yfinance` repeats a refused request at once and hides the status and `Retry-After`; this session reads both. It is
a separate module, so that only a fetch pays for the import.
"""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from curl_cffi.requests import Response, Session

from boursomatic_assets.errors import NoBarsError, ProviderError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import NOT_FOUND, start_of, through
from boursomatic_assets.providers.limits import SECONDS_TO_ANSWER, require_few_parts, require_size
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError

if TYPE_CHECKING:
    from curl_cffi.requests.session import HttpMethod

MOST_REDIRECTS = 5

_CHART = "/v8/finance/chart/"
_QUOTE_KEYS = ("open", "high", "low", "close", "volume")


class YahooSession(Session[Response]):
    """Browser-like session for all threads of one source; `seconds_to_answer` limits each answer as a whole."""

    def __init__(
        self, pace: Pace, gateway: str | None = None, seconds_to_answer: float = SECONDS_TO_ANSWER
    ) -> None:
        super().__init__(impersonate="chrome", timeout=seconds_to_answer, max_redirects=MOST_REDIRECTS)
        self._pace = pace
        self._gateway = gateway
        self._seconds_to_answer = seconds_to_answer
        self._heard = threading.local()

    @property
    def chart(self) -> dict[str, Any]:
        """The calling thread's last chart from Yahoo; empty if the last answer held none."""
        return getattr(self._heard, "chart", {})

    def request(self, method: HttpMethod, url: str, *args: Any, **options: Any) -> Response:  # noqa: ANN401 (curl's)
        """Send a request in its turn; an answer that explains a missing chart becomes the matching error."""
        self._pace.take_turn()
        options["timeout"] = self._seconds_to_answer
        body = bytearray()
        options["content_callback"] = partial(_receive, body)
        response = super().request(method, through(self._gateway, url), *args, **options)
        response.content = bytes(body)
        if _CHART in url:
            self._pace.heed(response.status_code, response.headers.get("Retry-After"))
            self._heard.chart = _chart_of(response)
        return response


def _receive(body: bytearray, chunk: bytes) -> int:
    """Take the next unpacked bytes; what is raised here ends the request."""
    require_size(len(body) + len(chunk))
    body += chunk
    return len(chunk)


def _chart_of(response: Response) -> dict[str, Any]:
    """Chart of an answer; empty for answers that `yfinance` handles itself, such as a stale crumb."""
    require_few_parts(response.text)
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise _no_json(response) from error
    match answer:
        case {"chart": {"error": {"code": "Not Found", "description": reason}}}:
            message = f"says {reason!r}"
            raise SymbolNotFoundError(message)
        case {"chart": {"error": {"description": str(reason)}}} if "Data doesn't exist" in reason:
            message = f"says {reason!r}"
            raise NoBarsError(message)
        case {"chart": {"result": [{"meta": dict(), "indicators": {"quote": [dict(quote), *_]}} as chart, *_]}}:
            if quote:
                _require_keys(chart, quote)
            return chart  # type: ignore[no-any-return]
    return {}


def _no_json(response: Response) -> ProviderError:
    if response.status_code == NOT_FOUND:
        return SymbolNotFoundError("answered 404")
    return PassingFailureError(f"answered {response.status_code}, expected JSON; found {start_of(response.text)}")


def _require_keys(chart: dict[str, Any], quote: dict[str, Any]) -> None:
    """Require all fields: without adjusted closes, `yfinance` would use plain ones and change the scale."""
    missing = [name for name in _QUOTE_KEYS if name not in quote]
    match chart["indicators"]:
        case {"adjclose": [{"adjclose": list()}, *_]}:
            pass
        case _:
            missing.append("adjclose")
    if "timestamp" not in chart:
        missing.append("timestamp")
    if missing:
        message = f"expected {', '.join((*_QUOTE_KEYS, 'adjclose', 'timestamp'))}; {missing} missing"
        raise SourceFailedError(message)
