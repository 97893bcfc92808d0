"""Daily bars from Stooq: one CSV per symbol."""

from __future__ import annotations

import io
import weakref
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS
from boursomatic_assets.errors import NoBarsError, ProviderError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import (
    NOT_FOUND,
    FetchedProvider,
    require_installed,
    start_of,
    through,
    within,
)
from boursomatic_assets.providers.patience import Pace, PassingFailureError
from boursomatic_assets.providers.symbols import to_stooq

if TYPE_CHECKING:
    import httpx

    from boursomatic_assets.providers.source import Wish
    from boursomatic_assets.settings import Settings

REQUESTS_PER_SECOND = 2.0
SECONDS_TO_ANSWER = 20.0

_DOWNLOAD = "https://stooq.com/q/d/l/"
_COLUMNS = {"session": "Date", **{name: name.title() for name in (*PRICE_COLUMNS, "volume")}}
_LIMIT_REACHED = "exceeded the daily hits limit"


def stooq_provider(settings: Settings) -> FetchedProvider:
    """Stooq alone, for the universe that the settings name.

    Raises
    ------
    ConfigurationError
        If the extra `yahoo`, which holds the HTTP client, is not installed.
    """
    from boursomatic_assets.providers.universe import read_universe

    return FetchedProvider((stooq_source(settings),), partial(read_universe, settings))


def stooq_source(settings: Settings) -> StooqSource:
    """Stooq at the settings' gateway and rate."""
    require_installed("httpx", "tenacity")
    import httpx

    client = httpx.Client(timeout=SECONDS_TO_ANSWER, follow_redirects=True)
    pace = Pace(settings.requests_per_second or REQUESTS_PER_SECOND)
    source = StooqSource(client, pace, settings.gateway, settings.stooq_key)
    weakref.finalize(source, client.close)
    return source


class StooqSource:
    """Stooq's CSV download.

    Parameters
    ----------
    client : httpx.Client
    pace : Pace
    gateway : str, optional
        Address through which Stooq is reached.
    key : str, optional
        API key, where Stooq asks for one.
    """

    name = "stooq"

    def __init__(
        self, client: httpx.Client, pace: Pace, gateway: str | None = None, key: str | None = None
    ) -> None:
        self._client = client
        self._key = {"apikey": key} if key else {}
        self._pace = pace
        self._gateway = gateway

    def fetch(self, wish: Wish) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        name = to_stooq(wish.symbol)
        if name is None:
            message = f"only symbols of the US, Paris, Amsterdam and Brussels have a name there, not {wish.symbol}"
            raise SymbolNotFoundError(message)
        text = self._download(name, wish)
        if text.strip().lower() == "no data":
            raise _no_data(wish)
        bars = within(_parsed(text).with_columns(symbol=pl.lit(wish.symbol)), wish).select(list(BAR_SCHEMA))
        if bars.is_empty():
            message = f"no bars from {wish.first or 'the first'} to {wish.last}"
            raise NoBarsError(message)
        return bars

    def _download(self, name: str, wish: Wish) -> str:
        import httpx

        dates = {"d1": wish.first.strftime("%Y%m%d")} if wish.first else {}
        query = {"s": name, **dates, "d2": wish.last.strftime("%Y%m%d"), "i": "d", **self._key}
        self._pace.take_turn()
        try:
            response = self._client.get(through(self._gateway, _DOWNLOAD), params=query)
        except httpx.HTTPError as error:
            message = f"{type(error).__name__}: {error}"
            raise PassingFailureError(message) from error
        self._pace.heed(response.status_code, response.headers.get("Retry-After"))
        if response.status_code == NOT_FOUND:
            message = "answered 404"
            raise SymbolNotFoundError(message)
        if not response.is_success:
            message = f"answered {response.status_code}: {start_of(response.text)}"
            raise SourceFailedError(message)
        return response.text


def _no_data(wish: Wish) -> ProviderError:
    """What 'No data' means. Stooq says it of unknown symbols and of dates without bars alike."""
    if wish.first is None and not wish.stored:
        return SymbolNotFoundError("says 'No data' for any date")
    return NoBarsError(f"says 'No data' from {wish.first or 'the first'} to {wish.last}")


def _parsed(text: str) -> pl.DataFrame:
    """Rows of a CSV as Stooq writes it; a value that cannot be read becomes null, which the bar contract sees."""
    _require_csv(text)
    try:
        # As text: inferred types would stop at the first value that does not fit.
        rows = pl.read_csv(io.StringIO(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        message = f"sent a damaged CSV: {error}"
        raise PassingFailureError(message) from error
    numbers = [name for name in _COLUMNS if name != "session"]
    return rows.select(
        pl.col(_COLUMNS["session"]).str.to_date("%Y-%m-%d", strict=False).alias("session"),
        *(pl.col(_COLUMNS[name]).cast(pl.Float64, strict=False).alias(name) for name in numbers),
    )


def _require_csv(text: str) -> None:
    header, _, rows = text.partition("\n")
    if text.lstrip().startswith("<"):
        message = f"expected a CSV; found a page: {start_of(text)}"
        raise PassingFailureError(message)
    if text.strip().lower().startswith(_LIMIT_REACHED):
        message = f"allows no more downloads today: {start_of(text)}"
        raise SourceFailedError(message)
    missing = [name for name in _COLUMNS.values() if name not in header.strip().split(",")]
    if missing:
        message = f"expected the columns {','.join(_COLUMNS.values())}; {missing} missing, found {start_of(header)}"
        raise SourceFailedError(message)
    last_row = rows.rstrip("\r\n").rpartition("\n")[2]
    if rows and (not rows.endswith("\n") or last_row.count(",") < header.count(",")):
        message = f"sent a CSV that breaks off at {start_of(last_row)}"
        raise PassingFailureError(message)
