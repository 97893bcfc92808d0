"""Raw daily bars from Tiingo; each row states its split and dividend.

https://www.tiingo.com/documentation/end-of-day: United States only. The free plan allows 50 requests an hour, the
paid one 10,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.errors import SymbolNotFoundError
from boursomatic_assets.providers.fetching import no_bars
from boursomatic_assets.providers.symbols import to_tiingo
from boursomatic_assets.providers.vendors import (
    column,
    delivered_bars,
    first_asked,
    raw_bars,
    require_key,
    rows_of,
    vendor_provider,
)
from boursomatic_assets.providers.web import web_of
from boursomatic_assets.settings.variables import TIINGO_KEY

if TYPE_CHECKING:
    from boursomatic_assets.providers.fetching import FetchedProvider
    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.providers.web import Web
    from boursomatic_assets.settings import Settings

# The paid plan allows 10,000 an hour. On the free plan, lower BOURSOMATIC_REQUESTS_PER_SECOND.
REQUESTS_PER_SECOND = 2.5
# Tiingo's adjusted closes have about ten digits.
RESOLUTION = 1e-7
_PRICES = "https://api.tiingo.com/tiingo/daily/{}/prices"


def tiingo_provider(settings: Settings) -> FetchedProvider:
    """Tiingo as the only source, for the universe in the settings.

    Raises ConfigurationError if there is no key, or the extra `yahoo`, which holds the HTTP client, is not
    installed.
    """
    key = require_key(settings.tiingo_key, TIINGO_KEY, TiingoSource.name)
    return vendor_provider(TiingoSource(web_of(settings, REQUESTS_PER_SECOND), key), settings)


class TiingoSource:
    """Tiingo's end-of-day prices. The key goes into a header, never into an address."""

    name = "tiingo"

    def __init__(self, web: Web, key: str) -> None:
        self._web = web
        self._headers = {"Authorization": f"Token {key}"}

    def fetch(self, request: BarRequest) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        name = to_tiingo(request.symbol)
        if name is None:
            message = f"only symbols of the US have a name there, not {request.symbol}"
            raise SymbolNotFoundError(message)
        query = {
            "startDate": first_asked(request).isoformat(),
            "endDate": request.last.isoformat(),
            "format": "json",
        }
        rows = rows_of(self._web.get(_PRICES.format(name), query, self._headers), TIINGO_KEY)
        if not rows:
            raise no_bars(request)
        bars = raw_bars(rows, "adjClose", request.symbol)
        splits = bars.select("session", split=column(rows, "splitFactor")).filter(
            (pl.col("split") != 1) & (pl.col("split") > 0)
        )
        dividends = bars.select("session", dividend=column(rows, "divCash")).filter(pl.col("dividend") > 0)
        return delivered_bars(bars, splits, dividends, request, RESOLUTION)
