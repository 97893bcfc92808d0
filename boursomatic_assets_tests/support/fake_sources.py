"""Yahoo, Stooq, EODHD and Tiingo on this machine, for given bars, with faults on request.

In a test:      with FakeSources(bars) as sources: ... sources.address is the gateway
As a program:   python -m boursomatic_assets_tests.support.fake_sources --bars prices.parquet
                It prints its port and serves until it is ended, or until whoever started it has ended.

Both read bars and faults anew for every request, so that a test may change them between two. A file must be
replaced (`os.replace`), not written over, lest a request read half of it. `ADDRESS/_requests` lists what was asked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import polars as pl

from boursomatic_assets_tests.support import fake_answers as answers
from boursomatic_assets_tests.support import fake_vendors as vendors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Fault(StrEnum):
    """What goes wrong with one request; the quirks in the last group are Yahoo's, and answers all the same."""

    SERVER_ERROR = "500 with a page"
    TOO_MANY = "429"
    PAGE = "200 with a page"
    HALF_BODY = "half a body"
    DROPPED = "connection closed without an answer"
    HANG = "no answer"

    NOT_FOUND = "symbol not found"
    STATUS_404 = "404 with a page"
    EMPTY = "no bars"
    MISSING_KEYS = "volume missing"
    LIMIT_REACHED = "daily limit reached"
    STALE_CRUMB = "401"
    UNKNOWN_KEY = "401 that repeats the key"
    REDIRECTED = "redirect to another host"
    KEY_WANTED = "a request for a key"

    BOMB = "a page of 64 MB in 64 KB"
    DRIP = "a body that arrives slowly and has no end"
    HEADER_DRIP = "a header that arrives slowly and has no end"
    NESTED = "JSON that is nested too deeply"
    ROWS = "more rows than a source can have"
    ECHO = "403 that repeats the request"

    NO_ADJUSTED = "adjusted close missing"
    SHIFTED = "timestamps shifted"
    LAST_TWICE = "last row twice"
    LIVE_ROW = "live row of the last session"
    ROW_BEYOND = "rows of later sessions"


# Those after which the next request may succeed, as drawn by a random share of faults. None takes long.
PASSING = (Fault.SERVER_ERROR, Fault.TOO_MANY, Fault.PAGE, Fault.HALF_BODY, Fault.DROPPED)

DRIPPING = {
    Fault.DRIP: b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
    Fault.HEADER_DRIP: b"HTTP/1.1 200 OK\r\nX-Slow: ",
}

# "yahoo/AAPL" or "stooq/*" to one fault for every request, or to one fault, or "" for none, for each of the first.
Faults = dict[str, "str | list[str]"]


@dataclass
class Reply:
    """One HTTP answer."""

    body: str | bytes
    status: int = 200
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class FakeSources:
    """A server on 127.0.0.1 that answers as a gateway to both sources.

    Attributes
    ----------
    bars : DataFrame or Path
        Columns of `BAR_SCHEMA`, and where a test wants them `adj_close` and `currency`; or a Parquet file of them.
    faults : dict or Path
        See `Faults`; or a JSON file of them.
    share : float
        Share of the other requests that meet with one of `PASSING`, drawn by `seed`.
    retry_after : str
        What a 429 asks for.
    delay : float
        Seconds before each answer.
    requests : list of dict
        What was asked: source, symbol, query, fault, and the moment by `time.monotonic`.
    """

    bars: pl.DataFrame | Path
    faults: Faults | Path = field(default_factory=dict)
    share: float = 0.0
    seed: int = 0
    retry_after: str = "1"
    delay: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.sources = self

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def asked(self, source: str, symbol: str | None = None) -> list[dict[str, Any]]:
        """Requests for the prices of a symbol, or of any."""
        return [r for r in self.requests if r["source"] == source and symbol in {None, r["symbol"]}]

    def bars_of(self, symbol: str) -> pl.DataFrame:
        bars = pl.read_parquet(self.bars) if isinstance(self.bars, Path) else self.bars
        return bars.filter(symbol=symbol).sort("session")

    def next_fault(self, source: str, symbol: str, query: dict[str, str], login: str) -> Fault | None:
        """Fault of this request, which is also noted."""
        with self._lock:
            number = self._counts[f"{source}/{symbol}"]
            self._counts[f"{source}/{symbol}"] += 1
            fault = self._planned(source, symbol, number) or self._drawn(f"{self.seed}/{source}/{symbol}/{number}")
            noted = {"source": source, "symbol": symbol, "query": query, "fault": fault, "at": time.monotonic()}
            self.requests.append({**noted, "login": login})
            return fault

    def _planned(self, source: str, symbol: str, number: int) -> Fault | None:
        plans = json.loads(self.faults.read_text()) if isinstance(self.faults, Path) else self.faults
        plan = plans.get(f"{source}/{symbol}", plans.get(f"{source}/*", []))
        if isinstance(plan, str):
            return Fault(plan)
        return Fault(plan[number]) if number < len(plan) and plan[number] else None

    def _drawn(self, seed: str) -> Fault | None:
        """Drawn from the request alone: the order in which threads come by makes no difference."""
        dice = random.Random(seed)  # noqa: S311 (a test's dice)
        return dice.choice(PASSING) if dice.random() < self.share else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    sources: FakeSources

    def handle_error(self, *_: object) -> None:
        """A client that gives up is no error here."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together; apart, the second waits 40 ms for the first to be acknowledged.
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        host, _, path = urlsplit(self.path).path.lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if path.startswith("v8/finance/chart/"):
            self._answer("yahoo", path.rpartition("/")[2], query)
        elif host == "stooq.com" and path == "q/d/l/":
            self._answer("stooq", query["s"], query)
        elif asked := vendors.vendor_asked(host, path):
            self._answer_as_vendor(*asked, query)
        else:
            self._send(self._other(host, path))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._send(Reply("thank you"))

    def _other(self, host: str, path: str) -> Reply:
        if host == "_requests":
            return Reply(json.dumps(self.server.sources.requests), kind="application/json")
        if host == "fc.yahoo.com":
            cookie = "A3=cookie; Max-Age=31557600; Domain=.yahoo.com; Path=/; SameSite=None; Secure; HttpOnly"
            return Reply(answers.PAGE, 404, headers={"Set-Cookie": cookie})
        if path == "v1/test/getcrumb":
            return Reply("crumb", kind="text/plain")
        if host == "guce.yahoo.com":
            return Reply(answers.CONSENT_PAGE)
        return Reply(answers.PAGE, 404)

    def _fault(self, source: str, symbol: str, query: dict[str, str]) -> Fault | None:
        """Fault of this request; the connection is closed where it is one of these."""
        sources = self.server.sources
        fault = sources.next_fault(source, symbol, query, self.headers.get("Authorization", ""))
        sources.closing.wait(sources.delay)
        if fault is Fault.HANG:
            sources.closing.wait(60)
        if fault in DRIPPING:
            self._drip(DRIPPING[fault])
        self.close_connection = fault in {Fault.HANG, Fault.DROPPED, *DRIPPING}
        return fault

    def _drip(self, start: bytes) -> None:
        """Send a byte now and then, until the client goes or the server closes."""
        with suppress(OSError):
            self.wfile.write(start)
            while not self.server.sources.closing.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

    def _echo(self) -> Reply:
        login = self.headers.get("Authorization", "")
        return Reply(f"refused: {self.path} {login}", 403)

    def _answer_as_vendor(self, source: str, table: str, symbol: str, query: dict[str, str]) -> None:
        key = vendors.key_of(source, query, self.headers.get("Authorization", ""))
        fault = self._fault(source, symbol, {**query, "key": key, "host": self.headers["Host"], "table": table})
        if self.close_connection:
            return
        sources = self.server.sources
        reply = self._echo() if fault is Fault.ECHO else _broken(fault, sources.retry_after)
        if reply is None and fault is Fault.REDIRECTED:
            reply = Reply("", 302, headers={"Location": vendors.elsewhere(sources, self.path)})
        elif reply is None:
            reply = _vendor(source, table, sources.bars_of(symbol), {**query, "key": key}, fault)
        self._send(reply, half=fault is Fault.HALF_BODY)

    def _answer(self, source: str, name: str, query: dict[str, str]) -> None:
        sources, symbol = self.server.sources, answers.symbol_behind(source, name)
        fault = self._fault(source, symbol, query)
        if self.close_connection:
            return
        bars = sources.bars_of(symbol)
        if fault is Fault.REDIRECTED:
            self._send(Reply("", 302, headers={"Location": vendors.elsewhere(sources, self.path)}))
            return
        reply = (self._echo() if fault is Fault.ECHO else _broken(fault, sources.retry_after)) or (
            _yahoo(bars, symbol, query, fault) if source == "yahoo" else _stooq(bars, query, fault)
        )
        self._send(reply, half=fault is Fault.HALF_BODY)

    def _send(self, reply: Reply, *, half: bool = False) -> None:
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.kind, "Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _broken(fault: Fault | None, retry_after: str) -> Reply | None:
    match fault:
        case Fault.SERVER_ERROR:
            return Reply(answers.PAGE, 500)
        case Fault.TOO_MANY:
            return Reply("Too Many Requests\r\n", 429, headers={"Retry-After": retry_after})
        case Fault.PAGE:
            return Reply(answers.PAGE)
        case Fault.STATUS_404:
            return Reply(answers.PAGE, 404)
        case Fault.STALE_CRUMB:
            return Reply(answers.STALE_CRUMB, 401, "application/json")
    return _hostile(fault)


def _hostile(fault: Fault | None) -> Reply | None:
    match fault:
        case Fault.BOMB:
            return Reply(_bomb(), headers={"Content-Encoding": "gzip"})
        case Fault.NESTED:
            return Reply("[" * 100_000, kind="application/json")
        case Fault.ROWS:
            return Reply("{}\n" * 600_000)
    return None


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(1 << 26), 1)


def _yahoo(bars: pl.DataFrame, symbol: str, query: dict[str, str], fault: Fault | None) -> Reply:
    if bars.is_empty() or fault is Fault.NOT_FOUND:
        body = answers.yahoo_error("Not Found", "No data found, symbol may be delisted")
        return Reply(body, 404, "application/json")
    zone, opens, closes, _ = answers.market_of(symbol)
    sessions = bars["session"].to_list()
    moments = [answers.moment_of(session, opens, zone) for session in sessions]
    if fault is Fault.SHIFTED:
        moments = [answers.summer_midnight(session, zone) for session in sessions]
    start, end = int(query.get("period1", moments[-1])), int(query.get("period2", moments[-1] + 1))
    chart = answers.yahoo_chart(bars, symbol, moments)
    if fault is not Fault.ROW_BEYOND:
        chart = answers.cut(chart, start, end if fault is not Fault.EMPTY else start)
    if "timestamp" in chart:
        chart = _with_quirk(chart, fault, answers.moment_of(_last(chart, sessions, moments), closes, zone))
    return Reply(answers.yahoo_body(chart), kind="application/json")


def _last(chart: dict[str, Any], sessions: Sequence[date], moments: Sequence[int]) -> date:
    return sessions[moments.index(chart["timestamp"][-1])]


def _with_quirk(chart: dict[str, Any], fault: Fault | None, close: int) -> dict[str, Any]:
    quote = chart["indicators"]["quote"][0]
    match fault:
        case Fault.MISSING_KEYS:
            del quote["volume"]
        case Fault.NO_ADJUSTED:
            del chart["indicators"]["adjclose"]
        case Fault.LAST_TWICE:
            return answers.with_last_row_again(chart, chart["timestamp"][-1], {})
        case Fault.LIVE_ROW:
            return answers.with_last_row_again(chart, close + 2, {"volume": quote["volume"][-1] + 1})
        case Fault.ROW_BEYOND:
            # Tomorrow's price, which Yahoo appends whatever end was asked for.
            return answers.with_last_row_again(chart, close + 86400, {"close": quote["high"][-1]})
    return chart


def _stooq(bars: pl.DataFrame, query: dict[str, str], fault: Fault | None) -> Reply:
    if fault is Fault.LIMIT_REACHED:
        return Reply(answers.LIMIT_REACHED, kind="text/plain")
    if fault is Fault.KEY_WANTED:
        return Reply(answers.KEY_WANTED, kind="text/plain")
    first, last = (_day(query.get(name, default)) for name, default in (("d1", "19000101"), ("d2", "99991231")))
    if fault is not Fault.ROW_BEYOND:
        bars = bars.filter(pl.col("session").is_between(first, last))
    if bars.is_empty() or fault in {Fault.NOT_FOUND, Fault.EMPTY}:
        return Reply(answers.NO_DATA, kind="text/plain")
    if fault is Fault.LAST_TWICE:
        bars = pl.concat([bars, bars.tail(1)])
    body = answers.stooq_csv(bars)
    if fault is Fault.MISSING_KEYS:
        body = body.replace("Volume", "Wolumen")
    return Reply(body, kind="text/csv")


def _vendor(source: str, table: str, bars: pl.DataFrame, query: dict[str, str], fault: Fault | None) -> Reply:
    match fault:
        case Fault.UNKNOWN_KEY:
            return Reply(vendors.UNKNOWN_KEY[source].format(key=query["key"]), 401)
        case Fault.LIMIT_REACHED:
            return Reply(*vendors.LIMITS[source])
        case Fault.EMPTY:
            return Reply("[]", kind="application/json")
    if bars.is_empty() or fault is Fault.NOT_FOUND:
        return Reply(vendors.NOT_FOUND[source], 404)
    body = vendors.vendor_body(table, bars, query)
    if fault is Fault.MISSING_KEYS:
        body = body.replace('"volume"', '"shares"')
    return Reply(body, kind="application/json")


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def weekday_bars(
    symbols: Sequence[str], first: date, count: int, price: float = 100.0, volume: float = 1000.0
) -> pl.DataFrame:
    """Bars on `count` weekdays from a date on: the i-th closes at `price` + i, opens 1 below, spans 2 around."""
    days = [day for n in range(count * 2 + 4) if (day := first + timedelta(days=n)).isoweekday() < 6][:count]
    closes = pl.Series([price + i for i in range(count)], dtype=pl.Float64)
    one = pl.DataFrame(
        {
            "session": days,
            "open": closes - 1,
            "high": closes + 2,
            "low": closes - 2,
            "close": closes,
            "volume": [volume] * count,
        }
    )
    return pl.concat(one.select(pl.lit(symbol).alias("symbol"), pl.all()) for symbol in symbols)


def main() -> None:
    """Serve a Parquet file until this process is ended or orphaned."""
    arguments = argparse.ArgumentParser(description="Yahoo and Stooq on this machine.")
    arguments.add_argument("--bars", type=Path, required=True, help="Parquet file, read at every request")
    arguments.add_argument("--faults", type=Path, help="JSON file of faults, read at every request")
    arguments.add_argument("--share", type=float, default=0.0, help="share of requests that fail")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--retry-after", default="1")
    arguments.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    given = arguments.parse_args()
    parent = os.getppid()
    sources = FakeSources(
        given.bars, given.faults or {}, given.share, given.seed, given.retry_after, delay=given.delay
    )
    with sources:
        print(sources.port, flush=True)  # noqa: T201 (its one line of output)
        while os.getppid() == parent:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
