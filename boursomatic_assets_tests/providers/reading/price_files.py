"""Price files as people and vendors write them: a strategy that makes one, with the bars that it means.

Whoever reads one must find exactly these bars, or refuse it with the reason.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ZONES = {
    "AAPL": "America/New_York",
    "BRK.B": "America/New_York",
    "MC.PA": "Europe/Paris",
    "ASML.AS": "Europe/Amsterdam",
}
SPELLINGS = {
    "AAPL": ("AAPL", "aapl", "AAPL.US", "NASDAQ:AAPL", "AAPL US Equity"),
    "BRK.B": ("BRK.B", "brk.b", "BRK/B US"),
    "MC.PA": ("MC.PA", "mc.pa", "MC FP", "EPA:MC", "mc.fr"),
    "ASML.AS": ("ASML.AS", "asml.as", "ASML NA", "AMS:ASML"),
}
HEADERS = (
    ("Date", "Symbol", "Open", "High", "Low", "Close", "Volume"),
    ("date", "ticker", "open", "high", "low", "close", "volume"),
    ("<DATE>", "<TICKER>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    ("timestamp", "code", "1. open", "2. high", "3. low", "4. close", "5. volume"),
    ("t", "T", "o", "h", "l", "c", "v"),
    ("Date", "Valeur", "Ouverture", "Plus haut", "Plus bas", "Clôture", "Volume"),
    ("Datum", "Symbol", "Eröffnung", "Hoch", "Tief", "Schluss", "Volumen"),
    ("", "Symbol", "Open Price", "High Price", "Low Price", "Close/Last", "Share Volume"),
)
RARELY, OFTEN = (False, False, True), (False, True)
TODAY = date(2026, 1, 1)


def _moment(session: date, zone: str) -> datetime:
    return datetime.combine(session, time(0), ZoneInfo(zone)).astimezone(UTC)


DATES: dict[str, Callable[[date, str], str]] = {
    "2024-01-31": lambda day, _: day.isoformat(),
    "2024/01/31": lambda day, _: day.strftime("%Y/%m/%d"),
    "20240131": lambda day, _: day.strftime("%Y%m%d"),
    "2024-1-31": lambda day, _: f"{day.year}-{day.month}-{day.day}",
    "31/01/2024": lambda day, _: day.strftime("%d/%m/%Y"),
    "31.01.2024": lambda day, _: day.strftime("%d.%m.%Y"),
    "01/31/2024": lambda day, _: day.strftime("%m/%d/%Y"),
    "1/31/2024 16:00": lambda day, _: f"{day.month}/{day.day}/{day.year} 16:00",
    "31/01/24": lambda day, _: day.strftime("%d/%m/%y"),
    "1/31/24": lambda day, _: f"{day.month}/{day.day}/{day:%y}",
    "24-01-31": lambda day, _: day.strftime("%y-%m-%d"),
    "Jan 31, 2024": lambda day, _: day.strftime("%b %d, %Y"),
    "31-Jan-2024": lambda day, _: day.strftime("%d-%b-%Y"),
    "midnight in UTC": lambda day, _: f"{day}T00:00:00Z",
    "midnight there": lambda day, zone: datetime.combine(day, time(0), ZoneInfo(zone)).isoformat(sep=" "),
    "midnight there in UTC": lambda day, zone: _moment(day, zone).isoformat(sep=" "),
    "close in UTC": lambda day, zone: (_moment(day, zone) + timedelta(hours=16)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "seconds": lambda day, zone: str(int(_moment(day, zone).timestamp())),
    "milliseconds": lambda day, zone: str(int(_moment(day, zone).timestamp()) * 1000),
    "milliseconds of UTC": lambda day, _: str(int(datetime.combine(day, time(0), UTC).timestamp()) * 1000),
}
TWO_DIGITS = {"31/01/24", "1/31/24", "24-01-31"}
OPEN_ORDER = {"31/01/2024", "31.01.2024", "01/31/2024", "1/31/2024 16:00"}


@dataclass(frozen=True)
class PriceFile:
    """A file and what it means."""

    name: str
    data: bytes
    bars: pl.DataFrame
    must_be_read: bool
    is_incomplete: bool

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.write_bytes(self.data)
        return path


def _bars(
    rng: np.random.Generator, symbols: Sequence[str], sessions: int, price: float, shares: float
) -> pl.DataFrame:
    start = date(2015, 1, 1) + timedelta(days=int(rng.integers(0, 3600)))
    days = [day for day in (start + timedelta(days=i) for i in range(sessions * 2 + 8)) if day.weekday() < 5]
    rows = []
    for symbol in symbols:
        for day in days[:sessions]:
            low, one, other, high = sorted(round(float(price * rng.uniform(0.8, 1.25)), 2) for _ in range(4))
            rows.append((symbol, day, one, high, low, other, float(int(shares * rng.uniform(0.2, 5)))))
    return pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")


def _number(value: float, digits: int, decimal: str, thousands: str) -> str:
    return f"{value:,.{digits}f}".replace(",", "\0").replace(".", decimal).replace("\0", thousands)


def _volume(value: float, style: str, decimal: str, thousands: str) -> str:
    if style == "M" and value >= 1000 and value % 1000 == 0:
        return f"{value / 1e6:.3f}".replace(".", decimal) + "M"
    return _number(value, 0, decimal, thousands)


@st.composite
def price_files(draw: st.DrawFn) -> PriceFile:
    """Files of all kinds: separator, decimal sign, dates, order, encoding, header, columns, copies, compression."""
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731 (a short word for a long one)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    symbols = pick(("AAPL",), ("MC.PA",), ("AAPL", "MC.PA"), ("BRK.B", "ASML.AS", "AAPL"))
    bars = _bars(rng, symbols, pick(1, 3, 12, 30), pick(0.9, 9.0, 100.0, 1500.0, 60_000.0), pick(150.0, 5e4, 3e6))
    separator, decimal = pick(*",;\t|"), pick(".", ".", ",")
    thousands, grouped_prices = pick("", "", ",", ".", " ", "\u00a0", "'"), pick(*RARELY)
    thousands = "" if thousands == decimal else thousands
    dates, header = pick(*DATES), pick(*HEADERS)
    spelled = {symbol: pick(*SPELLINGS[symbol]) for symbol in symbols}
    sign = pick("", "", "$", " €")
    write = DATES[dates]
    order = pick("as they are", "newest first", "shuffled")
    rows = bars.sample(fraction=1.0, shuffle=True, seed=3) if order == "shuffled" else bars
    rows = rows.reverse() if order == "newest first" else rows
    shift = "\u00a0" if sign == " €" else ""
    cells = [
        [
            write(row[1], ZONES[row[0]]),
            spelled[row[0]],
            *(
                (sign if sign == "$" else "")
                + _number(value, 2, decimal, thousands if grouped_prices else "")
                + (shift + "€" if sign == " €" else "")
                for value in row[2:6]
            ),
            _volume(row[6], "", decimal, thousands),
        ]
        for row in rows.iter_rows()
    ]
    duplicates = pick(0, 0, 0, 1)
    cells += cells[:duplicates]
    columns = draw(st.permutations(range(7))) if pick(*OFTEN) else list(range(7))
    missing = pick(*[None] * 20, 2, 5, 6, 1)
    columns = [column for column in columns if column != missing]
    noted = pick(*OFTEN)
    names = [header[column] for column in columns] + (["Société"] if noted else [])
    body = [[row[column] for column in columns] + (["Générale"] if noted else []) for row in cells]
    text = io.StringIO(newline="")
    quoting = pick(csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    end = pick("\n", "\r\n")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    preface = pick((), (), ("Historical Data",), ("# made by hand",), ("Quotes", "", "All prices adjusted"))
    for line in preface:
        text.write(line + end)
    writer.writerow(names)
    for number, row in enumerate(body):
        if number == 2 and pick(*RARELY):
            writer.writerow(names)
        writer.writerow(row)
    encoding = pick("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")
    data = text.getvalue().encode(encoding)
    name, data = _packed(data, pick("", "", ".gz", ".zip"))
    days = bars["session"]
    order_shows = dates not in OPEN_ORDER or bool(
        (days.dt.day() > 12).any() or (days.dt.day() == days.dt.month()).all()
    )
    plain_numbers = not thousands and decimal == "."
    return PriceFile(
        name,
        data,
        bars,
        must_be_read=missing is None and dates not in TWO_DIGITS and order_shows and plain_numbers,
        is_incomplete=missing is not None,
    )


def _packed(data: bytes, how: str) -> tuple[str, bytes]:
    if how == ".gz":
        return "prices.csv.gz", gzip.compress(data, 1)
    if how == ".zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("prices.csv", data)
        return "prices.zip", packed.getvalue()
    return "prices.csv", data
