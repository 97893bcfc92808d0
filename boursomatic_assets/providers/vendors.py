"""Shared by vendors with an API key: the key check, HTTP errors, and raw bars from JSON rows."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.core.market.calendars import FIRST_YEAR
from boursomatic_assets.core.market.vendor_actions import with_actions
from boursomatic_assets.errors import ConfigurationError, SourceFailedError, SymbolNotFoundError
from boursomatic_assets.providers.fetching import NOT_FOUND, FetchedProvider, Source, no_bars, start_of, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.providers.web import Answer
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.settings.variable import Variable

# The adjustment at the first requested bar needs the bar before it; no exchange is closed for longer.
DAYS_BEFORE = timedelta(days=14)
# Statuses that refuse the key, or the request for the key's plan.
_UNAUTHENTICATED, _REFUSALS = 401, (402, 403)


def vendor_provider(source: Source, settings: Settings) -> FetchedProvider:
    """Provider with one vendor as its only source, for the universe in the settings."""
    from boursomatic_assets.providers.universe import read_universe

    return FetchedProvider((source,), partial(read_universe, settings), secrets=settings.secrets)


def require_key(key: str | None, variable: Variable[str], source: str) -> str:
    """Return the key; raises ConfigurationError if it is missing."""
    if not key:
        message = f"the price source {source} needs an API key: set {variable.name}"
        raise ConfigurationError(message)
    return key


def first_asked(request: BarRequest) -> date:
    """First date to request from a vendor."""
    return request.first - DAYS_BEFORE if request.first else date(FIRST_YEAR, 1, 1)


def rows_of(answer: Answer, variable: Variable[str]) -> list[dict[str, Any]]:
    """Rows of an answer.

    Raises SymbolNotFoundError for a 404, and SourceFailedError for a refused key or another failed status. Raises
    PassingFailureError if the text is not a JSON array of objects.
    """
    said = start_of(answer.text)
    if answer.status == NOT_FOUND:
        message = f"answered 404: {said}"
        raise SymbolNotFoundError(message)
    if answer.status == _UNAUTHENTICATED:
        message = f"answered 401, does not know the key of {variable.name}: {said}"
        raise SourceFailedError(message)
    if answer.status in _REFUSALS:
        message = f"answered {answer.status}, the plan of the key {variable.name} does not include this: {said}"
        raise SourceFailedError(message)
    if not answer.is_success:
        message = f"answered {answer.status}: {said}"
        raise SourceFailedError(message)
    return answer.rows()


def column(rows: Sequence[Mapping[str, Any]], name: str) -> pl.Series:
    """Numbers of a column; other values become null, which the bar contract reports.

    Raises SourceFailedError if a row lacks the column.
    """
    missing = sum(name not in row for row in rows)
    if missing:
        message = f"expected {name!r} in every row; {missing} of {len(rows)} lack it"
        raise SourceFailedError(message)
    return pl.Series([_number(row[name]) for row in rows], dtype=pl.Float64)


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def dates(rows: Iterable[Mapping[str, Any]]) -> pl.Series:
    """Dates of the column `date`, without their time; raises SourceFailedError for an invalid date."""
    try:
        return pl.Series([date.fromisoformat(str(row["date"])[:10]) for row in rows], dtype=pl.Date)
    except (KeyError, ValueError) as error:
        message = f"expected dates such as 2024-01-31; found {error}"
        raise SourceFailedError(message) from error


def raw_bars(rows: Sequence[Mapping[str, Any]], adjusted: str, symbol: str) -> pl.DataFrame:
    """Raw bars of rows with `date`, `open`, `high`, `low`, `close`, `volume` and the named adjusted close."""
    numbers = {name: column(rows, name) for name in (*PRICE_COLUMNS, "volume")}
    frame = pl.DataFrame({"session": dates(rows), **numbers, "adj_close": column(rows, adjusted)})
    return frame.select(pl.lit(symbol).alias("symbol"), pl.all())


def delivered_bars(
    bars: pl.DataFrame, splits: pl.DataFrame, dividends: pl.DataFrame, request: BarRequest, resolution: float
) -> pl.DataFrame:
    """Requested bars, with the vendor's splits and dividends; raises NoBarsError if there are none."""
    wanted = within(with_actions(bars, splits, dividends, resolution), request)
    if wanted.is_empty():
        raise no_bars(request)
    return wanted
