"""Daily bars from Stooq: one CSV per symbol."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PRICE_COLUMNS
from boursomatic_assets.errors import NoBarsError, ProviderError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import NOT_FOUND, FetchedProvider, no_bars, start_of, within
from boursomatic_assets.providers.retry_policy import PassingFailureError
from boursomatic_assets.providers.symbols import to_stooq
from boursomatic_assets.providers.web import web_of

if TYPE_CHECKING:
    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.providers.web import Web
    from boursomatic_assets.settings import Settings

REQUESTS_PER_SECOND = 2.0
LONGEST_HEADER = 1_000
_DOWNLOAD = "https://stooq.com/q/d/l/"
_COLUMNS = {"session": "Date", **{name: name.title() for name in (*PRICE_COLUMNS, "volume")}}
_LIMIT_REACHED = "exceeded the daily hits limit"
_KEY_WANTED = "apikey"


def stooq_provider(settings: Settings) -> FetchedProvider:
    """Stooq as the only source, for the universe in the settings.

    Raises ConfigurationError if the extra `yahoo`, which holds the HTTP client, is not installed.
    """
    from boursomatic_assets.providers.universe import read_universe

    return FetchedProvider((stooq_source(settings),), partial(read_universe, settings), secrets=settings.secrets)


def stooq_source(settings: Settings) -> StooqSource:
    """Stooq with the gateway and rate of the settings."""
    return StooqSource(web_of(settings, REQUESTS_PER_SECOND), settings.stooq_key)


class StooqSource:
    """Stooq's CSV download; `key` is the API key, if Stooq requires one."""

    name = "stooq"

    def __init__(self, web: Web, key: str | None = None) -> None:
        self._web = web
        self._key = {"apikey": key} if key else {}

    def fetch(self, request: BarRequest) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        name = to_stooq(request.symbol)
        if name is None:
            message = (
                f"only symbols of the US, Paris, Amsterdam and Brussels have a name there, not {request.symbol}"
            )
            raise SymbolNotFoundError(message)
        text = self._download(name, request)
        if text.strip().lower() == "no data":
            raise _no_data(request)
        bars = within(_parsed(text).with_columns(symbol=pl.lit(request.symbol)), request).select(list(BAR_SCHEMA))
        if bars.is_empty():
            raise no_bars(request)
        return bars

    def _download(self, name: str, request: BarRequest) -> str:
        dates = {"d1": request.first.strftime("%Y%m%d")} if request.first else {}
        answer = self._web.get(
            _DOWNLOAD, {"s": name, **dates, "d2": request.last.strftime("%Y%m%d"), "i": "d", **self._key}
        )
        if answer.status == NOT_FOUND:
            message = "answered 404"
            raise SymbolNotFoundError(message)
        if not answer.is_success:
            message = f"answered {answer.status}: {start_of(answer.text)}"
            raise SourceFailedError(message)
        return answer.text


def _no_data(request: BarRequest) -> ProviderError:
    """Error for 'No data', which Stooq answers for unknown symbols and for dates without bars alike."""
    if request.first is None and not request.stored:
        return SymbolNotFoundError("says 'No data' for any date")
    return NoBarsError(f"says 'No data' from {request.first or 'the first'} to {request.last}")


def _parsed(text: str) -> pl.DataFrame:
    """Rows of Stooq's CSV; an unreadable value becomes null, which the bar contract reports."""
    _require_csv(text)
    try:
        # As text: with inferred types, the first value that does not fit would raise.
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
    if _KEY_WANTED in text.lower():
        message = f"asks for an API key: set BOURSOMATIC_STOOQ_KEY. It says {start_of(text)}"
        raise SourceFailedError(message)
    if text.strip().lower().startswith(_LIMIT_REACHED):
        message = f"allows no more downloads today: {start_of(text)}"
        raise SourceFailedError(message)
    if len(header) > LONGEST_HEADER:
        message = f"expected a CSV; found a line of {len(header):,} characters: {start_of(header)}"
        raise SourceFailedError(message)
    missing = [name for name in _COLUMNS.values() if name not in header.strip().split(",")]
    if missing:
        message = f"expected the columns {','.join(_COLUMNS.values())}; {missing} missing, found {start_of(header)}"
        raise SourceFailedError(message)
    last_row = rows.rstrip("\r\n").rpartition("\n")[2]
    if rows and (not rows.endswith("\n") or last_row.count(",") < header.count(",")):
        message = f"sent a CSV that breaks off at {start_of(last_row)}"
        raise PassingFailureError(message)
