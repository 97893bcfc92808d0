"""Raw daily bars from EODHD, with its tables of splits and dividends.

https://eodhd.com/financial-apis/api-for-historical-data-and-volumes and .../api-splits-dividends: prices are raw,
`adjusted_close` is adjusted for splits and dividends, the volume for splits. A paid plan allows 1,000 requests a
minute and 100,000 a day.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.vendor_actions import without_later_splits
from boursomatic_assets.errors import SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import no_bars
from boursomatic_assets.providers.symbols import to_eodhd
from boursomatic_assets.providers.vendors import (
    column,
    dates,
    delivered_bars,
    first_asked,
    raw_bars,
    require_key,
    rows_of,
    vendor_provider,
)
from boursomatic_assets.providers.web import web_of
from boursomatic_assets.settings.variables import EODHD_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.providers.fetching import FetchedProvider
    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.providers.web import Web
    from boursomatic_assets.settings import Settings

# 1,000 a minute are 16.7 a second.
REQUESTS_PER_SECOND = 15.0
# EODHD's adjusted closes have four decimals.
RESOLUTION = 1e-4
_API = "https://eodhd.com/api"


def eodhd_provider(settings: Settings) -> FetchedProvider:
    """EODHD as the only source, for the universe in the settings.

    Raises ConfigurationError if there is no key, or the extra `yahoo`, which holds the HTTP client, is not
    installed.
    """
    key = require_key(settings.eodhd_key, EODHD_KEY, EodhdSource.name)
    return vendor_provider(EodhdSource(web_of(settings, REQUESTS_PER_SECOND), key), settings)


class EodhdSource:
    """EODHD's end-of-day prices, splits and dividends: three requests for a symbol."""

    name = "eodhd"

    def __init__(self, web: Web, key: str) -> None:
        self._web = web
        self._query = {"api_token": key, "fmt": "json"}
        # Tables of the current request: a retry does not request again what an earlier attempt received.
        self._received = threading.local()

    def fetch(self, request: BarRequest) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        name = to_eodhd(request.symbol)
        if name is None:
            message = (
                f"only symbols of the US, Paris, Amsterdam and Brussels have a name here, not {request.symbol}"
            )
            raise SymbolNotFoundError(message)
        if getattr(self._received, "request", None) != request:
            self._received.request, self._received.tables = request, {}
        first = first_asked(request).isoformat()
        dated = {"from": first, "to": request.last.isoformat(), "period": "d", "order": "a"}
        rows = self._rows("eod", name, dated)
        if not rows:
            raise no_bars(request)
        bars = raw_bars(rows, "adjusted_close", request.symbol)
        # Volumes are in today's shares: all splits until today count, also those after the last bar.
        splits = _splits(self._rows("splits", name, {"from": first}))
        dividends = _dividends(self._rows("div", name, {"from": first}), request)
        self._received.request = None
        return delivered_bars(without_later_splits(bars, splits), splits, dividends, request, RESOLUTION)

    def _rows(self, table: str, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        tables: dict[str, list[dict[str, Any]]] = self._received.tables
        if table not in tables:
            answer = self._web.get(f"{_API}/{table}/{name}", {**query, **self._query})
            tables[table] = rows_of(answer, EODHD_KEY)
        return tables[table]


def _splits(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Splits as new shares per old one, from texts such as `4.000000/1.000000`."""
    try:
        new_and_old = [[float(side) for side in str(row["split"]).split("/")] for row in rows]
        shares = [new / old for new, old in new_and_old]
        if not all(map(math.isfinite, shares)):
            raise OverflowError
    except (KeyError, ValueError, ArithmeticError) as error:
        message = f"expected splits such as 4.000000/1.000000; {error}"
        raise SourceFailedError(message) from error
    frame = pl.DataFrame({"session": dates(rows), "split": pl.Series(shares, dtype=pl.Float64)})
    return frame.filter((pl.col("split") > 0) & (pl.col("split") != 1))


def _dividends(rows: Sequence[Mapping[str, Any]], request: BarRequest) -> pl.DataFrame:
    """Dividends as paid. Those in another currency are left out: the adjusted close reflects them."""
    own = [row for row in rows if not request.currency or row.get("currency") in {None, "", request.currency}]
    frame = pl.DataFrame({"session": dates(own), "dividend": column(own, "unadjustedValue")})
    return frame.filter(pl.col("dividend") > 0)
