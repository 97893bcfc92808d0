"""What EODHD and Tiingo send for given raw bars, in the shape that they send it.

Bars may have the columns `split` (new shares per old one) and `dividend` (cash per share); null or absent for none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets_tests.support.fake_sources import FakeSources

EODHD_NOT_FOUND = "Ticker Not Found."
EODHD_LIMIT = "You exceeded your daily API requests limit. Please contact support@eodhistoricaldata.com"
TIINGO_NOT_FOUND = '{"detail":"Not found."}'
TIINGO_LIMIT = (
    '{"detail":"Error: You have run over your hourly request allocation. '
    'Please upgrade at https://api.tiingo.com/pricing to have your limits increased."}'
)
LIMITS = {"eodhd": (EODHD_LIMIT, 402), "tiingo": (TIINGO_LIMIT, 429)}
NOT_FOUND = {"eodhd": EODHD_NOT_FOUND, "tiingo": TIINGO_NOT_FOUND}
# What a vendor says to a key that it does not know, and repeats of it.
UNKNOWN_KEY = {"eodhd": "Unauthenticated. Token: {key}", "tiingo": '{{"detail":"Invalid token {key}."}}'}


def vendor_adjusted(bars: pl.DataFrame) -> pl.DataFrame:
    """Prices and volumes of one symbol as a vendor adjusts them: a loop from the newest bar back to the first.

    The prices before an action are multiplied by 1 / split - dividend / close before, volumes by the split.
    """
    factor, shares, rows = 1.0, 1.0, []
    closes = bars["close"].to_list()
    for place in range(bars.height - 1, -1, -1):
        row = bars.row(place, named=True)
        scaled = {name: row[name] * factor for name in ("open", "high", "low", "close")}
        rows.append({"session": row["session"], **scaled, "volume": row["volume"] * shares})
        split, dividend = row.get("split") or 1.0, row.get("dividend") or 0.0
        if place:
            factor *= 1 / split - dividend / closes[place - 1]
            shares *= split
    return pl.DataFrame(rows[::-1], schema_overrides={"session": pl.Date})


def vendor_body(table: str, bars: pl.DataFrame, query: dict[str, str]) -> str:
    """The JSON of an answer, cut to the dates asked for."""
    first = query.get("from") or query.get("startDate", "0000")
    last = query.get("to") or query.get("endDate", "9999")
    rows = {"eod": _eodhd_bars, "splits": _splits, "div": _dividends, "prices": _tiingo_bars}[table](bars)
    return json.dumps([row for row in rows if first <= row["date"][:10] <= last])


def _pairs(bars: pl.DataFrame) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    adjusted = vendor_adjusted(bars).iter_rows(named=True) if bars.height else iter(())
    return list(zip(bars.iter_rows(named=True), adjusted, strict=True))


def _eodhd_bars(bars: pl.DataFrame) -> list[dict[str, Any]]:
    """Raw prices, an adjusted close of four decimals, and the volume in the shares of today."""
    return [
        {"date": str(raw["session"])}
        | {name: raw[name] for name in ("open", "high", "low", "close")}
        | {"adjusted_close": round(own["close"], 4), "volume": own["volume"]}
        for raw, own in _pairs(bars)
    ]


def _tiingo_bars(bars: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {"date": f"{raw['session']}T00:00:00.000Z"}
        | {name: raw[name] for name in ("close", "high", "low", "open", "volume")}
        | {f"adj{name.title()}": own[name] for name in ("close", "high", "low", "open", "volume")}
        | {"divCash": raw.get("dividend") or 0.0, "splitFactor": raw.get("split") or 1.0}
        for raw, own in _pairs(bars)
    ]


def _events(bars: pl.DataFrame, name: str) -> list[tuple[date, float]]:
    if name not in bars.columns:
        return []
    return list(bars.drop_nulls(name).select("session", name).iter_rows())


def _splits(bars: pl.DataFrame) -> list[dict[str, Any]]:
    return [{"date": str(session), "split": f"{split:.6f}/1.000000"} for session, split in _events(bars, "split")]


def _dividends(bars: pl.DataFrame) -> list[dict[str, Any]]:
    """Dividends as they were paid, and in the shares of today."""
    splits = _events(bars, "split")
    rows = []
    for session, paid in _events(bars, "dividend"):
        today = paid
        for later, split in splits:
            today /= split if later > session else 1.0
        dates = dict.fromkeys(("declarationDate", "recordDate", "paymentDate"), str(session))
        amounts = {"value": today, "unadjustedValue": paid, "currency": "USD", "period": "Quarterly"}
        rows.append({"date": str(session), **dates, **amounts})
    return rows


def vendor_asked(host: str, path: str) -> tuple[str, str, str] | None:
    """Source, table and symbol of a request; None for one to nobody here."""
    parts = path.split("/")
    if host == "eodhd.com" and parts[0] == "api" and len(parts) == 3:
        root, _, exchange = parts[2].rpartition(".")
        return "eodhd", parts[1], root.replace("-", ".") if exchange == "US" else parts[2]
    if host == "api.tiingo.com" and parts[:2] == ["tiingo", "daily"] and len(parts) == 4:
        return "tiingo", parts[3], parts[2].replace("-", ".")
    return None


def key_of(source: str, query: dict[str, str], authorization: str) -> str:
    """Key that a request carries."""
    return query.get("api_token", "") if source == "eodhd" else authorization.removeprefix("Token ")


def elsewhere(sources: FakeSources, path: str) -> str:
    """Address of the same server by another name."""
    return f"http://localhost:{sources.port}{path}"
