"""What Yahoo and Stooq send for given bars, in the shape that they send it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = "<!DOCTYPE html>\n<html><head><title>Error</title></head><body>Will be right back...</body></html>\n"
CONSENT_PAGE = (
    '<html><form method="post"><input type="hidden" name="csrfToken" value="token">'
    '<input type="hidden" name="sessionId" value="session"></form></html>'
)
LIMIT_REACHED = "Exceeded the daily hits limit\n"
NO_DATA = "No data\n"
KEY_WANTED = (
    "Get your apikey:\n\n1. Open https://stooq.com/q/d/?s=aapl.us&get_apikey\n2. Enter the captcha code.\n"
    "3. Copy the CSV download link at the bottom of the page - it will contain the <apikey> variable.\n"
)
STALE_CRUMB = '{"finance": {"result": null, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}'

QUOTE_KEYS = ("open", "high", "low", "close", "volume")
# Suffix of a symbol to time zone, opening and closing hours, currency.
_MARKETS = {
    "": ("America/New_York", time(9, 30), time(16), "USD"),
    "L": ("Europe/London", time(8), time(16, 30), "GBp"),
    "PA": ("Europe/Paris", time(9), time(17, 30), "EUR"),
    "AS": ("Europe/Amsterdam", time(9), time(17, 30), "EUR"),
    "BR": ("Europe/Brussels", time(9), time(17, 30), "EUR"),
}
_COUNTRIES = {"us": "", "fr": ".PA", "nl": ".AS", "be": ".BR"}


def symbol_behind(source: str, name: str) -> str:
    """Symbol of the universe behind a name of Yahoo's (`BRK-B`) or Stooq's (`brk-b.us`); any other is unknown."""
    root, dot, ending = name.rpartition(".")
    if source == "stooq":
        return root.upper().replace("-", ".") + _COUNTRIES[ending] if ending in _COUNTRIES else f"unknown {name}"
    return name.replace("-", ".") if not dot or ending in _MARKETS else f"unknown {name}"


def market_of(symbol: str) -> tuple[ZoneInfo, time, time, str]:
    zone, opens, closes, currency = _MARKETS.get(symbol.rpartition(".")[2] if "." in symbol else "", _MARKETS[""])
    return ZoneInfo(zone), opens, closes, currency


def moment_of(session: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(session, at, zone).timestamp())


def summer_midnight(session: date, zone: ZoneInfo) -> int:
    """Midnight by the summer's clock all year round, so an hour early in winter: a known fault of Yahoo's."""
    offset = datetime(2024, 7, 1, tzinfo=zone).utcoffset() or timedelta()
    return int((datetime.combine(session, time(), UTC) - offset).timestamp())


def yahoo_chart(bars: pl.DataFrame, symbol: str, moments: Sequence[int]) -> dict[str, Any]:
    """A chart of all these bars, as JSON is to hold it."""
    zone, opens, closes, currency = market_of(symbol)
    last = bars["session"].max() or date(2024, 1, 1)
    assert isinstance(last, date)
    offset = zone.utcoffset(datetime(last.year, last.month, last.day, 12)) or timedelta()  # noqa: DTZ001
    period = {
        "timezone": "LCL",
        "start": moment_of(last, opens, zone),
        "end": moment_of(last, closes, zone),
        "gmtoffset": int(offset.total_seconds()),
    }
    meta = {
        "currency": bars["currency"][0] if "currency" in bars.columns and bars.height else currency,
        "symbol": symbol,
        "exchangeName": "EXC",
        "instrumentType": "EQUITY",
        "firstTradeDate": 345479400,
        "regularMarketTime": moment_of(last, closes, zone),
        "gmtoffset": int(offset.total_seconds()),
        "timezone": "LCL",
        "exchangeTimezoneName": zone.key,
        "priceHint": 2,
        "currentTradingPeriod": {name: dict(period) for name in ("pre", "regular", "post")},
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }
    quote = {name: bars[name].to_list() for name in QUOTE_KEYS}
    adjusted = bars["adj_close" if "adj_close" in bars.columns else "close"].to_list()
    return {
        "meta": meta,
        "timestamp": list(moments),
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": adjusted}]},
    }


def cut(chart: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    """The chart from `start` to before `end`; a chart without bars lacks the timestamps, as Yahoo's does."""
    kept = [i for i, moment in enumerate(chart["timestamp"]) if start <= moment < end]
    quote, adjusted = chart["indicators"]["quote"][0], chart["indicators"]["adjclose"][0]
    if not kept:
        return {"meta": chart["meta"], "indicators": {"quote": [{}], "adjclose": [{}]}}
    indicators = {
        "quote": [{name: [values[i] for i in kept] for name, values in quote.items()}],
        "adjclose": [{name: [values[i] for i in kept] for name, values in adjusted.items()}],
    }
    return {**chart, "timestamp": [chart["timestamp"][i] for i in kept], "indicators": indicators}


def with_last_row_again(chart: dict[str, Any], moment: int, changes: dict[str, float]) -> dict[str, Any]:
    """The chart with a copy of its last row at a moment, some of its values changed."""
    quote, adjusted = chart["indicators"]["quote"][0], chart["indicators"]["adjclose"][0]["adjclose"]
    again = {name: [*values, changes.get(name, values[-1])] for name, values in quote.items()}
    indicators = {"quote": [again], "adjclose": [{"adjclose": [*adjusted, again["close"][-1]]}]}
    return {**chart, "timestamp": [*chart["timestamp"], moment], "indicators": indicators}


def yahoo_body(chart: dict[str, Any]) -> str:
    return json.dumps({"chart": {"result": [chart], "error": None}})


def yahoo_error(code: str, description: str) -> str:
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


def stooq_csv(bars: pl.DataFrame) -> str:
    """The CSV of these bars with Stooq's columns and line ends; what a bar lacks stays blank."""
    columns = {"session": "Date", **{name: name.title() for name in QUOTE_KEYS}}
    return bars.select(pl.col(name).alias(title) for name, title in columns.items()).write_csv(
        line_terminator="\r\n"
    )
