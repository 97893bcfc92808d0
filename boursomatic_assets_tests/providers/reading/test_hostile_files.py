"""Price files of careless and hostile people: the right values, or a refusal with the reason."""

from __future__ import annotations

import pickle
from datetime import date, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.market.adjusted_close import MOVES_APART
from boursomatic_assets.core.market.bars import ISOLATED, CheckedBars, check_bars
from boursomatic_assets.core.market.corporate_actions import split_like_jumps
from boursomatic_assets.core.market.isolated_prices import set_aside_isolated
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.reading.rows import A_WEEK_APART, COPIES_OF_FILES, LONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

TODAY = date(2026, 1, 1)
HEADER = "Date,Symbol,Open,High,Low,Close,Volume"
Row = tuple[date, float, float, float, float, int]


def walk(sessions: int = 60, seed: int = 1, start: float = 100.0) -> list[Row]:
    """A price that moves by 1.2 % a day, from 2 January 2024 on, in hundredths."""
    rng = np.random.default_rng(seed)
    days = [day for day in (date(2024, 1, 2) + timedelta(i) for i in range(sessions * 2)) if day.weekday() < 5]
    closes = np.round(start * np.exp(np.cumsum(rng.normal(0, 0.012, sessions))), 2)
    return [
        (day, float(close), round(close * 1.01, 2), round(close * 0.99, 2), float(close), int(volume))
        for day, close, volume in zip(days[:sessions], closes, rng.integers(1e6, 3e6, sessions), strict=True)
    ]


WALK = walk()


def text_of(rows: Sequence[Row], symbol: str = "AAPL", separator: str = ",", dates: str = "%Y-%m-%d") -> str:
    cells = [(day.strftime(dates), symbol, *(f"{price:.2f}" for price in prices), volume)
             for day, *prices, volume in rows]  # fmt: skip
    return "".join(separator.join(str(cell) for cell in row if cell != "") + "\n" for row in cells)


def written(folder: Path, content: str | bytes, name: str = "prices.csv") -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def checked(path: Path) -> CheckedBars:
    return check_bars(FilesProvider(path).bars(), today=TODAY)


def values(bars: CheckedBars) -> list[Row]:
    assert bars.rejected.is_empty(), bars.reasons()
    return bars.accepted.drop("symbol").rows()  # type: ignore[return-value]


def refusal(path: Path) -> str:
    with pytest.raises(SourceFileError) as caught:
        FilesProvider(path).bars()
    return str(caught.value)


def symbols(path: Path) -> list[str]:
    return FilesProvider(path).instruments()["symbol"].to_list()


@pytest.mark.parametrize(
    "name",
    [
        "Adj. Close", "Adj Close**", "adjusted_price", "Close (adj)", "Adjusted", "AdjustedClosePrice",
        "PX_LAST_ADJ", "Cours ajusté", "Clôture ajustée", "split_adjusted_close", "prc_adj",
        "Bereinigter Schlusskurs", "Close (adjusted for splits and dividends)",
    ],
)  # fmt: skip
def test_an_adjusted_close_is_known_by_any_name(tmp_path: Path, name: str) -> None:
    lines = "".join(f"{d},AAPL,{o},{h},{low},{c},{v},{c / 2}\n" for d, o, h, low, c, v in WALK)
    read = values(checked(written(tmp_path, f"{HEADER},{name}\n{lines}")))
    assert [row[4] for row in read] == pytest.approx([row[4] / 2 for row in WALK])


@pytest.mark.parametrize(
    "name", ["Unadjusted Close", "isAdjusted", "Adj Factor", "Adjustment", "adjOpen", "Non-adjusted price"]
)
def test_a_column_that_speaks_of_adjustment_is_no_adjusted_close(tmp_path: Path, name: str) -> None:
    lines = "".join(f"{line},7\n" for line in text_of(WALK).splitlines())
    assert values(checked(written(tmp_path, f"{HEADER},{name}\n{lines}"))) == WALK


@pytest.mark.parametrize("wrong", ["next day", "other symbol"])
def test_an_adjusted_close_of_another_day_or_symbol_scales_no_bar(tmp_path: Path, wrong: str) -> None:
    other = [*WALK[1:], WALK[-1]] if wrong == "next day" else walk(seed=2, start=40.0)
    lines = "".join(
        f"{d},AAPL,{o},{h},{low},{c},{v},{of[4]}\n" for (d, o, h, low, c, v), of in zip(WALK, other, strict=True)
    )
    found = checked(written(tmp_path, f"{HEADER},Adj Close\n{lines}"))
    assert found.accepted.is_empty()
    assert found.reasons() == {MOVES_APART: 60}


def test_a_second_header_with_other_columns_is_refused(tmp_path: Path) -> None:
    swapped = "".join(f"{d},AAPL,{c},{h},{low},{o},{v}\n" for d, o, h, low, c, v in WALK[30:])
    text = f"{HEADER}\n{text_of(WALK[:30])}Date,Symbol,Close,High,Low,Open,Volume\n{swapped}"
    assert "another one below it has 'Close' where the first has open" in refusal(written(tmp_path, text))
    again = f"{HEADER}\n{text_of(WALK[:30])}{HEADER}\n{text_of(WALK[30:])}"
    assert values(checked(written(tmp_path, again))) == WALK


@pytest.mark.parametrize(
    ("names", "symbol"),
    [
        (("AAPL.csv", "AAPL (1).csv"), "AAPL"),
        (("AAPL.csv", "AAPL - Copy.csv"), "AAPL"),
        (("AAPL_2023.csv", "AAPL_2024.csv"), "AAPL"),
        (("AAPL_2020-01-01_2024-12-31.csv", "aapl_daily.csv"), "AAPL"),
        (("NASDAQ_AAPL, 1D.csv", "NASDAQ_AAPL, 1D (2).csv"), "AAPL"),
        (("MC FP Equity.csv", "MC.PA prices.csv"), "MC.PA"),
    ],
)
def test_files_of_one_symbol_are_one_instrument(tmp_path: Path, names: tuple[str, str], symbol: str) -> None:
    for name in names:
        written(tmp_path, HEADER.replace("Symbol,", "") + "\n" + text_of(WALK, symbol=""), name)
    (batch,) = FilesProvider(tmp_path).batches()
    assert batch.left_out == {COPIES_OF_FILES: 60}
    assert (batch.bars["symbol"].unique().to_list(), batch.bars.height) == ([symbol], 60)


TYPES: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "lists": ("numbers for close", lambda bars: bars.with_columns(pl.col("close").implode().over("session"))),
    "durations": ("numbers for close", lambda bars: bars.with_columns(close=pl.duration(days=1))),
    "flags": ("numbers for volume", lambda bars: bars.with_columns(volume=pl.lit(value=True))),
    "clocks": ("dates for session", lambda bars: bars.with_columns(session=pl.lit(time(12)))),
    "structs": ("texts for symbol", lambda bars: bars.with_columns(symbol=pl.struct("symbol"))),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_parquet_column_of_a_type_that_holds_no_such_values_is_refused(tmp_path: Path, kind: str) -> None:
    said, change = TYPES[kind]
    bars = pl.DataFrame(
        [(day, "AAPL", *rest) for day, *rest in WALK],
        schema=["session", "symbol", "open", "high", "low", "close", "volume"],
        orient="row",
    )
    change(bars).write_parquet(tmp_path / "prices.parquet")
    assert f"expected {said}; found a column of" in refusal(tmp_path / "prices.parquet")


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32", "mac lines", "DOS end", "two marks"])
def test_bars_and_instruments_are_read_from_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = f"{HEADER}\n{text_of(WALK)}"
    content = {
        "mac lines": text.replace("\n", "\r").encode(),
        "DOS end": f"{text}\x1a".encode(),
        "two marks": f"\ufeff\ufeff{text}".encode(),
    }.get(encoding) or text.encode(encoding)
    path = written(tmp_path, content)
    assert values(checked(path)) == WALK
    assert symbols(path) == ["AAPL"]


@pytest.mark.parametrize("place", ["end", "middle"])
def test_nul_bytes_of_a_crash_are_refused(tmp_path: Path, place: str) -> None:
    text = f"{HEADER}\n{text_of(WALK)}".encode()
    broken = text + bytes(4096) if place == "end" else text[:900] + bytes(300) + text[1200:]
    assert "holds NUL bytes, as after a crash" in refusal(written(tmp_path, broken))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ARROW1\0\0\xff\xff\xff\xff", "a Feather (Arrow) file"),
        (pickle.dumps({"close": [1.0]}), "a pickle"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"<table><tr><td>Date</td></tr></table>", "a web page or XML"),
    ],
)
def test_other_formats_are_called_by_their_name(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(written(tmp_path, content))


def test_a_number_that_is_cut_off_at_the_end_of_a_file_is_none(tmp_path: Path) -> None:
    whole = f"{HEADER}\n{text_of(WALK)}".removesuffix("\n")
    assert values(checked(written(tmp_path, whole))) == WALK
    # A volume of seven digits, of which four are left; or a close of two decimals, of which one is left.
    found = checked(written(tmp_path, whole[:-3]))
    assert found.accepted.height == 59
    assert found.rejected["reason"].item().endswith("(the file ends here)")
    last = "".join(f"{d},AAPL,{o},{h},{low},{v},{c:.2f}\n" for d, o, h, low, c, v in WALK).removesuffix("\n")
    cut = checked(written(tmp_path, f"Date,Symbol,Open,High,Low,Volume,Close\n{last[:-1]}"))
    assert cut.accepted.height == 59


@pytest.mark.parametrize(
    "note",
    ["Total,,,,,,123456789\n", "---,---,---,---,---,---,---\n", "<<<<<<< HEAD\n", "Source: somebody,,,,,,\n"],
)
def test_a_line_that_is_no_bar_makes_no_instrument(tmp_path: Path, note: str) -> None:
    columns = "Symbol,Date,Open,High,Low,Close,Volume"
    lines = "".join(f"AAPL,{day},{','.join(map(str, rest))}\n" for day, *rest in WALK)
    path = written(tmp_path, f"{columns}\n{note}{lines}{note}")
    assert checked(path).accepted.drop("symbol").rows() == WALK
    assert symbols(path) == ["AAPL"]


def test_a_date_with_a_mistyped_year_is_set_aside(tmp_path: Path) -> None:
    day, *rest = WALK[30]
    wrong = [*WALK[:30], (day.replace(year=2014), *rest), *WALK[31:]]
    found = checked(written(tmp_path, f"{HEADER}\n{text_of(wrong)}"))  # type: ignore[arg-type]
    assert found.reasons() == {LONE: 1}
    assert found.accepted["session"].to_list() == [row[0] for row in WALK if row[0] != day]


def test_weekly_bars_before_daily_ones_are_no_daily_bars(tmp_path: Path) -> None:
    weekly = [(date(2022, 1, 7) + timedelta(7 * week), *rest) for week, (_, *rest) in enumerate(walk(30, seed=3))]
    found = checked(written(tmp_path, f"{HEADER}\n{text_of([*weekly, *WALK])}"))  # type: ignore[list-item]
    assert found.reasons() == {A_WEEK_APART.partition(":")[0]: 30}
    assert values(CheckedBars(found.accepted, found.rejected.clear())) == WALK


DATES = (
    "%d-%b-%y", "%y%m%d", "%d%m%Y", "%Y-W%W-%w", "%Y-%j", "%Y%j", "%Y-%m", "'%Y-%m-%d", "%Y-%m-%d 24:00:00",
    "%Y-%m-%d 16:00:00 America/New_York", "%Y%m%d.0", "%d.%m.%y",
)  # fmt: skip


@pytest.mark.parametrize("form", DATES)
def test_dates_in_other_forms_are_refused_with_the_first_one(tmp_path: Path, form: str) -> None:
    said = refusal(written(tmp_path, f"{HEADER}\n{text_of(WALK, dates=form)}"))
    assert f"expected dates such as 2024-01-31; found {WALK[0][0].strftime(form)}" in said


@pytest.mark.parametrize("origin", [date(1899, 12, 30), date(1970, 1, 1), date(1, 1, 1)])
def test_days_counted_from_an_origin_are_refused(tmp_path: Path, origin: date) -> None:
    lines = "".join(f"{(day - origin).days},AAPL,{o},{h},{low},{c},{v}\n" for day, o, h, low, c, v in WALK)
    assert "and no value that can be read" in refusal(written(tmp_path, f"{HEADER}\n{lines}"))


@pytest.mark.parametrize(
    "cell", ["USD {}", "{} EUR", "{} 1/4", "{}%", "({})", "99-16", "'{}'", "\u0661\u0660\u0660", "ten"]
)
def test_prices_that_are_no_plain_numbers_are_never_read(tmp_path: Path, cell: str) -> None:
    lines = "".join(f'{d},AAPL,{o},{h},{low},"{cell.format(c)}",{v}\n' for d, o, h, low, c, v in WALK)
    path = written(tmp_path, f"{HEADER}\n{lines}")
    try:
        assert checked(path).accepted.is_empty()
    except SourceFileError as error:
        assert "expected plain numbers such as 12.5 for close" in str(error)  # noqa: PT017 (either is right)


def scaled(rows: Sequence[Row], factor: float, first: int, end: int) -> list[Row]:
    return [
        (day, *(round(price * (factor if first <= place < end else 1), 4) for price in prices), volume)
        for place, (day, *prices, volume) in enumerate(rows)
    ]  # type: ignore[return-value]  # fmt: skip


LONG = walk(250)


@pytest.mark.parametrize(
    ("rows", "jumps", "set_aside"),
    [
        # A slip for a week or more is two jumps, at an end of the file one; up to three sessions are isolated.
        (scaled(LONG, 10, 100, 105), [100, 105], 0),
        (scaled(LONG, 1000, 100, 105), [100, 105], 0),
        (scaled(LONG, 0.01, 100, 110), [100, 110], 0),
        (scaled(LONG, 0.01, 150, 250), [150], 0),
        (scaled(LONG, 10, 249, 250), [249], 0),
        (scaled(LONG, 10, 0, 1), [1], 0),
        (scaled(LONG, 1000, 100, 103), [], 3),
        (scaled(LONG, 0.8, 125, 250), [125], 0),
        ([*LONG[:125], *walk(250, seed=9, start=37.0)[125:]], [125], 0),
    ],
    ids=["x10 a week", "x1000 a week", "/100 two weeks", "pence to pounds", "last day", "first day",
         "x1000 three days", "other currency", "other symbol"],
)  # fmt: skip
def test_a_slip_of_units_is_noticed(tmp_path: Path, rows: list[Row], jumps: list[int], set_aside: int) -> None:
    text = "".join(f"{','.join(map(str, (row[0], 'AAPL', *row[1:])))}\n" for row in rows)
    found = set_aside_isolated(checked(written(tmp_path, f"{HEADER}\n{text}")))
    assert split_like_jumps(found.accepted)["session"].to_list() == [rows[place][0] for place in jumps]
    assert found.reasons() == ({ISOLATED: set_aside} if set_aside else {})


def test_two_files_that_disagree_keep_neither_row(tmp_path: Path) -> None:
    written(tmp_path, f"{HEADER}\n{text_of(WALK[:40])}", "a.csv")
    written(tmp_path, f"{HEADER}\n{text_of(scaled(WALK[30:], 1.01, 0, 30))}", "b.csv")
    found = checked(tmp_path)
    assert found.reasons() == {"conflicting duplicate of a symbol and session": 20}
    assert found.accepted["session"].to_list() == [row[0] for row in (*WALK[:30], *WALK[40:])]


def test_prices_in_two_currencies_are_refused(tmp_path: Path) -> None:
    def signed(sign: str, rows: Sequence[Row]) -> str:
        return "".join(f"{d},AAPL,{sign}{o},{sign}{h},{sign}{low},{sign}{c},{v}\n" for d, o, h, low, c, v in rows)

    dollars = f"{HEADER}\n{signed('$', WALK[:30])}"
    mixed = written(tmp_path, dollars + signed("\N{EURO SIGN}", WALK[30:]))
    assert "expected prices in one currency; found the signs $ and \N{EURO SIGN}" in refusal(mixed)
    assert values(checked(written(tmp_path, dollars + signed("$", WALK[30:])))) == WALK


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    lines = "".join(f"{d},AAPL,{o},{h},{low},{c},{2 * c},{v}\n" for d, o, h, low, c, v in WALK)
    twice = written(tmp_path, f"Date,Symbol,Open,High,Low,Close,close,Volume\n{lines}")
    assert "two columns are named 'Close'" in refusal(twice)
