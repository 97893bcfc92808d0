from __future__ import annotations

import gzip
import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, CheckedBars, check_bars
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers import files
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.source import Outcome, SymbolReport
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars

if TYPE_CHECKING:
    from collections.abc import Callable

TODAY = date(2026, 1, 1)
BARS = pl.DataFrame(
    {
        "symbol": ["AAPL", "AAPL", "MC.PA"],
        "session": [date(2024, 1, 31), date(2024, 2, 1), date(2024, 1, 31)],
        "open": [10.0, 11.0, 0.1],
        "high": [12.0, 13.5, 0.30000000000000004],
        "low": [9.0, 10.0, 0.05],
        "close": [11.0, 12.0, 0.2],
        "volume": [1000.0, 2000.0, 0.0],
    },
    schema=BAR_SCHEMA,
)
HEADER = "Date,Symbol,Open,High,Low,Close,Volume"
LINE = "2024-01-31,AAPL,10,12,9,11,1000"


def read(path: Path) -> pl.DataFrame:
    return FilesProvider(path).bars()


def read_text(folder: Path, text: str, name: str = "prices.csv") -> pl.DataFrame:
    path = folder / name
    path.write_text(text)
    return read(path)


def refusal(path: Path) -> str:
    with pytest.raises(SourceFileError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "prices.parquet": pl.DataFrame.write_parquet,
    "prices.csv": pl.DataFrame.write_csv,
    "prices.csv.gz": lambda bars, path: path.write_bytes(gzip.compress(bars.write_csv().encode())),
    "PRICES.PARQUET": pl.DataFrame.write_parquet,
    "PRICES.CSV": pl.DataFrame.write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_each_format_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    WRITERS[name](BARS, tmp_path / name)
    assert read(tmp_path / name).equals(BARS)
    assert read(tmp_path / name).schema == pl.Schema(BAR_SCHEMA)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
@settings(deadline=None, max_examples=15)
@given(panel=bar_panels(min_sessions=1), data=st.data())
def test_any_lawful_panel_is_read_back_as_the_same_panel_in_the_same_order(
    suffix: str, panel: pl.DataFrame, data: st.DataObject
) -> None:
    shuffled = panel.sample(fraction=1.0, shuffle=True, seed=data.draw(st.integers(0, 1000)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"prices{suffix}"
        WRITERS[f"prices{suffix}"](shuffled, path)
        assert read(path).equals(shuffled)
        assert check_bars(read(path), today=TODAY).accepted.equals(panel)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.floats(min_value=5e-324, max_value=1.7976931348623157e308, allow_nan=False), min_size=1, max_size=20
    )
)
def test_every_bit_of_a_price_in_a_csv_file_is_read(prices: list[float]) -> None:
    bars = pl.DataFrame(
        [("AAPL", TODAY - timedelta(days), *[price] * 5) for days, price in enumerate(prices)],
        schema=BAR_SCHEMA,
        orient="row",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prices.csv"
        # Python's repr is the shortest text that means this double and no other.
        lines = [f"AAPL,{row[1]}," + ",".join(map(repr, row[2:])) for row in bars.iter_rows()]
        path.write_text("\n".join(["symbol,session,open,high,low,close,volume", *lines]) + "\n")
        assert read(path).equals(bars)


def test_a_folder_of_one_file_per_symbol_takes_the_symbols_from_the_names(tmp_path: Path) -> None:
    for name in ("AAPL.csv", "MC.PA.parquet", "BRK.B.csv.gz", "^FCHI.csv"):
        symbol = name.removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")
        suffix = name[len(symbol) :]
        WRITERS[f"prices{suffix}"](BARS.head(2).drop("symbol"), tmp_path / name)
    (tmp_path / "README.md").write_text("not prices")
    found = read(tmp_path)
    assert sorted(found["symbol"].unique()) == ["AAPL", "BRK.B", "MC.PA", "^FCHI"]
    for _, one in found.group_by("symbol"):
        assert one.drop("symbol").equals(BARS.head(2).drop("symbol"))


def test_in_a_folder_a_column_of_symbols_is_believed_before_the_files_name(tmp_path: Path) -> None:
    BARS.write_csv(tmp_path / "part-0.csv")
    assert read(tmp_path).equals(BARS)


def test_one_file_without_symbols_is_refused_even_when_named_after_one(tmp_path: Path) -> None:
    BARS.drop("symbol").write_csv(tmp_path / "AAPL.csv")
    assert "none found for symbol" in refusal(tmp_path / "AAPL.csv")


@pytest.mark.parametrize(
    "header",
    [
        "Date,Symbol,Open,High,Low,Close,Volume",
        "date,ticker,open,high,low,close,volume",
        "DATE,TICKER,OPEN,HIGH,LOW,CLOSE,VOLUME",
        "dAtE,tIcKeR,oPeN,hIgH,lOw,cLoSe,vOlUmE",
        "ts,symbol,o,h,l,c,v",
        "Datetime,Name,Open Price,High_Price,low.price,Close-Price,Vol",
        "session,symbol,open,high,low,close,volume",
        " Date , Symbol , Open , High , Low , Close , Volume ",
    ],
)
def test_columns_are_matched_by_their_usual_names(tmp_path: Path, header: str) -> None:
    found = read_text(tmp_path, f"{header}\n{LINE}\n")
    assert found.rows() == [("AAPL", date(2024, 1, 31), 10.0, 12.0, 9.0, 11.0, 1000.0)]


def test_columns_may_come_in_any_order_beside_others(tmp_path: Path) -> None:
    text = "Volume,Sector,Close,Low,High,Open,Symbol,Date\n1000,Tech,11,9,12,10,AAPL,2024-01-31\n"
    assert read_text(tmp_path, text).rows() == [("AAPL", date(2024, 1, 31), 10.0, 12.0, 9.0, 11.0, 1000.0)]


def test_a_symbol_comes_before_a_companys_name_and_a_date_before_a_time(tmp_path: Path) -> None:
    text = f"Name,Time,{HEADER}\nApple Inc.,16:00,{LINE}\n"
    assert read_text(tmp_path, text).rows() == [("AAPL", date(2024, 1, 31), 10.0, 12.0, 9.0, 11.0, 1000.0)]


@pytest.mark.parametrize("second", ["close", "CLOSE", "Close"])
def test_columns_that_are_called_the_same_are_refused(tmp_path: Path, second: str) -> None:
    with pytest.raises(SourceFileError, match=r"two columns are named '[Cc]lose'; rename or delete one"):
        read_text(tmp_path, f"{HEADER},{second}\n{LINE},99\n")


@pytest.mark.parametrize("name", ["Adj Close", "adj_close", "ADJ. CLOSE", "AdjClose", "Adjusted Close"])
def test_an_adjusted_close_scales_the_whole_bar_but_not_the_volume(tmp_path: Path, name: str) -> None:
    # 5.5 / 11 = 0.5
    found = read_text(tmp_path, f"{HEADER},{name}\n{LINE},5.5\n")
    assert found.rows() == [("AAPL", date(2024, 1, 31), 5.0, 6.0, 4.5, 5.5, 1000.0)]


def test_a_bar_without_its_adjusted_close_is_set_aside_and_not_taken_unadjusted(tmp_path: Path) -> None:
    checked = check_bars(read_text(tmp_path, f"{HEADER},Adj Close\n{LINE},\n{LINE},5.5\n"), today=TODAY)
    assert checked.accepted["close"].to_list() == [5.5]
    assert checked.reasons() == {"null price or volume": 1}


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-31",
        "2024/01/31",
        "20240131",
        "2024-01-31 00:00:00",
        "2024-01-31 16:00",
        "2024-01-31T23:59:59",
        "2024-01-31T00:00:00Z",
        "2024-01-31 00:00:00+01:00",
        "2024-01-31 00:00:00-05:00",
        " 2024-01-31 ",
        "01/31/2024",
        "31.01.2024",
        "31/01/2024 17:35",
        "Jan 31 2024",
        "31 janv. 2024",
        "1706659200",
        "1706659200000",
    ],
)
def test_dates_are_read_in_the_usual_ways(tmp_path: Path, text: str) -> None:
    found = read_text(tmp_path, f"{HEADER}\n{LINE.replace('2024-01-31', text)}\n")
    assert found["session"].to_list() == [date(2024, 1, 31)]


@pytest.mark.parametrize("text", ["06/05/2024", "05.06.2024", "6/16/23", "23-06-16", "202401310930"])
def test_dates_that_could_mean_another_day_are_refused_rather_than_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.csv").write_text(f"{HEADER}\n{LINE.replace('2024-01-31', chr(34) + text + chr(34))}\n")
    message = refusal(tmp_path / "prices.csv")
    assert text in message
    assert "2024-01-31" in message


PARQUET_DATES: dict[str, list[Any] | pl.Series] = {
    "date": [date(2024, 1, 31)],
    "datetime": [datetime(2024, 1, 31, 16, 0)],  # noqa: DTZ001 (a file without zones)
    "nanoseconds": pl.Series([datetime(2024, 1, 31)], dtype=pl.Datetime("ns")),  # noqa: DTZ001
    "midnight in UTC": [datetime(2024, 1, 31, tzinfo=UTC)],
    # An exchange's midnight is another day in UTC when its clock is ahead.
    "midnight in Paris": [datetime(2024, 1, 31, tzinfo=ZoneInfo("Europe/Paris"))],
    "midnight in New York": [datetime(2024, 1, 31, tzinfo=ZoneInfo("America/New_York"))],
    "close in New York": [datetime(2024, 1, 31, 20, 0, tzinfo=ZoneInfo("America/New_York"))],
    "text": ["2024-01-31"],
    "categories": pl.Series(["2024-01-31"], dtype=pl.Categorical),
    "a number": [20240131],
    "a small number": pl.Series([20240131], dtype=pl.Int32),
}


@pytest.mark.parametrize("kind", PARQUET_DATES)
def test_a_session_in_parquet_is_the_exchanges_date_whatever_its_type(tmp_path: Path, kind: str) -> None:
    bars = BARS.head(1).with_columns(session=pl.Series(PARQUET_DATES[kind]))
    bars.write_parquet(tmp_path / "prices.parquet")
    assert read(tmp_path / "prices.parquet").equals(BARS.head(1))


def test_numbers_in_parquet_may_be_whole_small_decimal_or_text(tmp_path: Path) -> None:
    bars = BARS.head(1).with_columns(
        open=pl.Series([10], dtype=pl.Int64),
        high=pl.Series([12], dtype=pl.Float32),
        low=pl.Series([Decimal("9.00")]),
        close=pl.Series([" 11 "]),
        volume=pl.Series([1000], dtype=pl.UInt32),
        symbol=pl.Series(["AAPL"], dtype=pl.Categorical),
    )
    bars.write_parquet(tmp_path / "prices.parquet")
    assert read(tmp_path / "prices.parquet").equals(BARS.head(1))


def test_what_pandas_writes_is_read(tmp_path: Path) -> None:
    frame = BARS.to_pandas().rename(columns={"session": "Date", "symbol": "Ticker"})
    frame.set_index("Date").to_parquet(tmp_path / "indexed.parquet")
    frame.to_parquet(tmp_path / "plain.parquet")
    frame.to_csv(tmp_path / "numbered.csv")
    for name in ("indexed.parquet", "plain.parquet", "numbered.csv"):
        assert read(tmp_path / name).equals(BARS), name


def test_a_spreadsheets_mark_at_the_beginning_and_its_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes(f"\ufeff{HEADER}\r\n{LINE}\r\n".encode())
    assert read(tmp_path / "prices.csv").rows() == [("AAPL", date(2024, 1, 31), 10.0, 12.0, 9.0, 11.0, 1000.0)]


@pytest.mark.parametrize("symbol", ["NA", "NULL", "NAN", "TRUE", "INF", "1E5", "0700", "BRK.B", "^GSPC", "BAC-PL"])
def test_a_symbol_is_read_as_written(tmp_path: Path, symbol: str) -> None:
    assert read_text(tmp_path, f"{HEADER}\n{LINE.replace('AAPL', symbol)}\n")["symbol"].to_list() == [symbol]


@pytest.mark.parametrize("symbol", ["", '""', "  "])
def test_a_row_without_a_symbol_is_set_aside_and_makes_no_instrument(tmp_path: Path, symbol: str) -> None:
    bars = read_text(tmp_path, f"{HEADER}\n{LINE}\n{LINE.replace('AAPL', symbol)}\n")
    assert check_bars(bars, today=TODAY).reasons() == {"null symbol or session": 1}
    assert FilesProvider(tmp_path / "prices.csv").instruments()["symbol"].to_list() == ["AAPL"]


def test_a_missing_column_is_named_beside_the_columns_found(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("Date,Symbol,Open,High,Low,Last Trade\n2024-01-31,AAPL,10,12,9,11\n")
    message = refusal(path)
    assert "none found for close, volume" in message
    assert "['Date', 'Symbol', 'Open', 'High', 'Low', 'Last Trade']" in message


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_file_with_another_separator_is_read(tmp_path: Path, separator: str) -> None:
    found = read_text(tmp_path, f"{HEADER}\n{LINE}\n".replace(",", separator))
    assert found.rows() == [("AAPL", date(2024, 1, 31), 10.0, 12.0, 9.0, 11.0, 1000.0)]


def test_one_file_of_a_folder_without_a_column_is_named(tmp_path: Path) -> None:
    BARS.write_csv(tmp_path / "good.csv")
    BARS.drop("close").write_csv(tmp_path / "worse.csv")
    with pytest.raises(SourceFileError, match=r"worse\.csv.* none found for close"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv.gz"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_called_so(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    many = pl.concat([BARS.with_columns(volume=pl.col("volume") + number) for number in range(500)])
    WRITERS[name](many, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv", "prices.csv.gz"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv", "prices.csv.gz", "prices.xlsx"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(range(256)) * 10)
    refusal(tmp_path / name)


def test_a_header_without_rows_is_a_source_without_bars(tmp_path: Path) -> None:
    bars = read_text(tmp_path, f"{HEADER}\n")
    assert bars.schema == pl.Schema(BAR_SCHEMA)
    assert bars.is_empty()
    assert FilesProvider(tmp_path / "prices.csv").instruments().is_empty()


def test_nothing_at_the_path_is_said_so(tmp_path: Path) -> None:
    assert "there is nothing at" in refusal(tmp_path / "nowhere.csv")
    assert "--path" in refusal(tmp_path / "nowhere.csv")


def test_a_folder_without_a_file_of_prices_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert ".parquet, .csv, .csv.gz" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        *((cell, "null price or volume") for cell in ("n/a", "-", "#N/A", "None", "")),
        *((cell, "not a number") for cell in ("12 EUR", "11p", "1,2,3", "eleven", "12:30", "1/2")),
    ],
)
def test_a_cell_that_is_no_number_sets_its_row_aside_and_no_other(tmp_path: Path, cell: str, reason: str) -> None:
    rest = LINE.replace("AAPL", "MSFT").replace(",11,", f',"{cell}",')
    checked = check_bars(read_text(tmp_path, f"{HEADER}\n{LINE}\n{rest}\n"), today=TODAY)
    assert checked.accepted["symbol"].to_list() == ["AAPL"]
    assert checked.rejected["symbol"].to_list() == ["MSFT"]
    assert checked.reasons() == {reason: 1}
    # The text is kept, for whoever looks at the rejected bars.
    kept = f"{reason}: {cell}" if reason == "not a number" else reason
    assert checked.rejected["reason"].to_list() == [kept]


def test_a_date_that_is_none_sets_its_row_aside_and_no_other(tmp_path: Path) -> None:
    rest = LINE.replace("AAPL", "MSFT").replace("2024-01-31", "2024-02-30")
    checked = check_bars(read_text(tmp_path, f"{HEADER}\n{LINE}\n{rest}\n"), today=TODAY)
    assert checked.accepted["symbol"].to_list() == ["AAPL"]
    assert checked.rejected["reason"].to_list() == ["not a date: 2024-02-30"]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "adj_close"])
def test_a_column_in_which_nothing_can_be_read_is_an_error(tmp_path: Path, column: str) -> None:
    path = tmp_path / "prices.csv"
    wrong = BARS.with_columns(adj_close=pl.col("close")).with_columns(
        pl.Series(["12,5", "13,5", "14,5"]).alias(column)
    )
    wrong.write_csv(path)
    message = refusal(path)
    assert f"for {column}" in message
    assert "12,5" in message


def test_a_row_with_a_missing_cell_at_its_end_is_set_aside(tmp_path: Path) -> None:
    checked = check_bars(read_text(tmp_path, f"{HEADER}\n{LINE}\n2024-02-01,AAPL,10,12,9,11\n"), today=TODAY)
    assert checked.accepted.height == 1
    assert checked.reasons() == {"null price or volume": 1}


def test_the_exchange_follows_from_the_symbols_suffix(tmp_path: Path) -> None:
    symbols = ["MC.PA", "ASML.AS", "UCB.BR", "AAPL", "BRK.B", "BAC-PL", "PA", "VOD.L", "SAP.DE", "X.PA."]
    lines = "\n".join(LINE.replace("AAPL", symbol) for symbol in symbols)
    (tmp_path / "prices.csv").write_text(f"{HEADER}\n{lines}\n{lines}\n")
    instruments = FilesProvider(tmp_path / "prices.csv").instruments()
    assert instruments.schema == pl.Schema(INSTRUMENT_SCHEMA)
    assert dict(instruments.select("symbol", "exchange").iter_rows()) == {
        "MC.PA": "XPAR",
        "ASML.AS": "XAMS",
        "UCB.BR": "XBRU",
        **dict.fromkeys(["AAPL", "BRK.B", "BAC-PL", "PA"], "US"),
        # Neither a market that is known here nor a share class: of its sessions nothing is said.
        **dict.fromkeys(["VOD.L", "SAP.DE", "X.PA."], "unknown"),
    }
    assert instruments["symbol"].is_sorted()
    # Nothing more is known, and nothing is made up.
    assert instruments.drop("symbol", "exchange").null_count().row(0) == (len(symbols),) * 5


# What is handed over: everything once, in pieces where the files are large, each as adjusted as it is.


def test_a_file_is_delivered_at_once_with_a_report_for_each_symbol(tmp_path: Path) -> None:
    BARS.write_csv(tmp_path / "prices.csv")
    (batch,) = FilesProvider(tmp_path / "prices.csv").batches()
    assert batch.bars.equals(BARS)
    assert batch.adjusted is False
    assert batch.reports == (
        SymbolReport("AAPL", Outcome.FETCHED, "files", 2, date(2024, 1, 31), date(2024, 2, 1)),
        SymbolReport("MC.PA", Outcome.FETCHED, "files", 1, date(2024, 1, 31), date(2024, 1, 31)),
    )


def test_only_a_file_with_an_adjusted_close_counts_as_adjusted(tmp_path: Path) -> None:
    BARS.with_columns(adj_close=pl.col("close") / 2).write_parquet(tmp_path / "prices.parquet")
    (batch,) = FilesProvider(tmp_path / "prices.parquet").batches()
    assert batch.adjusted is True
    assert batch.bars["close"].to_list() == [5.5, 6.0, 0.1]


def test_a_symbol_of_which_one_file_is_unadjusted_is_delivered_as_unadjusted(tmp_path: Path) -> None:
    adjusted = BARS.with_columns(adj_close=pl.col("close"))
    # Apple is in both files, LVMH in the adjusted one only, Microsoft in the other only.
    adjusted.write_csv(tmp_path / "adjusted.csv")
    raw = pl.concat([BARS.head(1), BARS.head(1).with_columns(symbol=pl.lit("MSFT"))])
    raw.with_columns(session=pl.lit(date(2020, 1, 2))).write_csv(tmp_path / "raw.csv")
    batches = {batch.adjusted: batch for batch in FilesProvider(tmp_path).batches()}
    assert sorted(batches[False].bars["symbol"]) == ["AAPL", "AAPL", "AAPL", "MSFT"]
    assert batches[True].bars["symbol"].to_list() == ["MC.PA"]
    assert [report.symbol for report in batches[False].reports] == ["AAPL", "MSFT"]


def test_a_row_without_a_symbol_is_delivered_once_and_reported_by_nobody(tmp_path: Path) -> None:
    nameless = BARS.with_columns(symbol=pl.Series(["AAPL", None, "MC.PA"]))
    nameless.write_csv(tmp_path / "raw.csv")
    BARS.with_columns(adj_close=pl.col("close"), symbol=pl.lit("MSFT")).write_csv(tmp_path / "adjusted.csv")
    batches = list(FilesProvider(tmp_path).batches())
    delivered = pl.concat(batch.bars for batch in batches)
    assert delivered.height == 6
    assert delivered["symbol"].null_count() == 1
    assert [[report.symbol for report in batch.reports] for batch in batches] == [
        ["AAPL", "MC.PA"],
        ["MSFT"],
    ]


def small_pieces(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Take every file for a large one, and so many rows at a time."""
    monkeypatch.setattr(files, "BYTES_AT_ONCE", 0)
    monkeypatch.setattr(files, "ROWS_AT_ONCE", rows)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_a_large_file_is_delivered_in_pieces_of_whole_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    # 7 + 3 + 5 + 5 bars, about eight at a time: B begins before the eighth bar is passed, and so does D after C.
    bars = flat_bars({"A": [1.0] * 7, "B": [2.0] * 3, "C": [3.0] * 5, "D": [4.0] * 5})
    WRITERS[f"prices{suffix}"](bars.sample(fraction=1.0, shuffle=True, seed=2), tmp_path / f"prices{suffix}")
    small_pieces(monkeypatch, rows=8)
    batches = list(FilesProvider(tmp_path / f"prices{suffix}").batches())
    assert [[report.symbol for report in batch.reports] for batch in batches] == [["A", "B"], ["C", "D"]]
    assert pl.concat(batch.bars for batch in batches).sort("symbol", "session").equals(bars)


def test_a_large_folder_is_delivered_in_pieces_of_whole_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = flat_bars({"AAPL": [1.0, 2.0], "MSFT": [3.0]})
    for symbol in ("AAPL", "MSFT"):
        named.filter(pl.col("symbol") == symbol).drop("symbol").write_csv(tmp_path / f"{symbol}.csv")
    together = flat_bars({"AAPL": [None, None, 5.0], "IBM": [4.0]})
    together.with_columns(adj_close=pl.col("close") / 2).write_parquet(tmp_path / "others.parquet")
    small_pieces(monkeypatch, rows=1)
    batches = list(FilesProvider(tmp_path).batches())
    # Apple is in two files, of which one is not adjusted.
    assert [(batch.reports[0].symbol, batch.adjusted) for batch in batches] == [
        ("AAPL", False),
        ("IBM", True),
        ("MSFT", False),
    ]
    assert [batch.bars.sort("session")["close"].to_list() for batch in batches] == [
        [1.0, 2.0, 2.5],
        [2.0],
        [3.0],
    ]


@settings(deadline=None, max_examples=25)
@given(panel=bar_panels(min_sessions=1, max_sessions=8), rows=st.integers(1, 30), data=st.data())
def test_pieces_of_any_size_are_the_whole_and_no_symbol_comes_twice(
    panel: pl.DataFrame, rows: int, data: st.DataObject
) -> None:
    symbols = pl.Series([data.draw(st.sampled_from([name, None]), label="symbol") for name in panel["symbol"]])
    soiled = panel.with_columns(symbol=symbols.cast(pl.String), adj_close=pl.col("close") * 0.5)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        soiled.write_parquet(Path(folder) / "prices.parquet")
        whole = read(Path(folder) / "prices.parquet")
        small_pieces(monkeypatch, rows)
        batches = list(FilesProvider(Path(folder) / "prices.parquet").batches())
    order = list(BAR_SCHEMA)
    assert pl.concat(batch.bars for batch in batches).sort(order).equals(whole.sort(order))
    assert all(batch.adjusted for batch in batches)
    reported = [report.symbol for batch in batches for report in batch.reports]
    assert reported == sorted(set(symbols.drop_nulls()))


def test_what_is_wrong_with_a_large_file_is_said_as_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    BARS.drop("close").write_csv(tmp_path / "prices.csv")
    small_pieces(monkeypatch, rows=1)
    with pytest.raises(SourceFileError, match=r"prices\.csv: .* none found for close"):
        list(FilesProvider(tmp_path / "prices.csv").batches())


# The real panels, where they lie beside the checkout. What must be rejected is counted with plain pandas.


def expected_reasons(path: Path) -> tuple[dict[str, int], pd.DataFrame]:
    """Rows by the first rule of the bar contract that they break, after scaling by adj_close / close."""
    raw = pd.read_parquet(path)
    absurd = pd.Series(data=False, index=raw.index)
    if "adj_close" in raw:
        factor = raw["adj_close"] / raw["close"]
        absurd = (factor <= 0) | ((factor > 1.05) & ~before_a_reverse_split(raw))
        for name in ("open", "high", "low", "close"):
            raw[name] *= factor.where(~absurd, 1.0)
    o, h, l, c, v = (raw[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    prices = raw[["open", "high", "low", "close"]]
    rules = {
        "null price or volume": raw[["open", "high", "low", "close", "volume"]].isna().any(axis=1),
        "non-positive price": (prices <= 0).any(axis=1),
        "high below low, open or close": (h < l) | (h < o) | (h < c),
        "low above open or close": (l > o) | (l > c),
        "negative volume": v < 0,
        "negative or absurd adjusted close": absurd,
        "conflicting duplicate of a symbol and session": raw.duplicated(["symbol", "date"], keep=False),
    }
    left, counts = pd.Series(data=True, index=raw.index), {}
    for reason, broken in rules.items():
        counts[reason] = int((left & broken).sum())
        left &= ~broken
    return {reason: count for reason, count in counts.items() if count}, raw[left]


def before_a_reverse_split(raw: pd.DataFrame) -> pd.Series:
    """Whether the close rises to 1.4 times or more from one session to the next, somewhere after a row."""
    found = pd.Series(data=False, index=raw.index)
    for _, own in raw.sort_values("date").groupby("symbol"):
        rises = own.index[own["close"] / own["close"].shift(1) >= 1.4]
        if len(rises):
            found[own.index[: own.index.get_loc(rises[-1])]] = True
    return found


def load(path: Path) -> CheckedBars:
    return check_bars(read(path), today=TODAY)


def test_the_sp500_panel_is_read_whole_and_its_known_defects_are_set_aside() -> None:
    path = shared_file("data/us_sp500_2013_2018.parquet")
    checked = load(path)
    expected, sound = expected_reasons(path)
    assert checked.accepted.height + checked.rejected.height == 619_040
    assert checked.reasons() == expected
    # As its README says: 11 rows with a null open, 8 of them without high and low too; 1 high below low.
    assert expected["null price or volume"] == 11
    assert expected["high below low, open or close"] >= 1
    nulls = checked.rejected.filter(pl.col("open").is_null())
    assert (nulls.height, nulls.filter(pl.col("high").is_null() & pl.col("low").is_null()).height) == (11, 8)
    assert checked.rejected.filter(pl.col("high") < pl.col("low")).height == 1
    # The 4 zero volumes are all in bars without an open.
    assert nulls.filter(pl.col("volume") == 0).height == 4
    assert checked.accepted["symbol"].n_unique() == 505
    assert checked.accepted["close"].sum() == pytest.approx(sound["close"].sum(), rel=1e-12)


def test_the_european_panel_is_read_whole_and_its_known_defects_are_set_aside() -> None:
    path = shared_file("data/europe_1989_2017.parquet")
    checked = load(path)
    expected, sound = expected_reasons(path)
    assert checked.accepted.height + checked.rejected.height == 184_099
    assert checked.reasons() == expected
    # As its README says: one all-null Sunday, negative adjusted closes of ACA.PA, 193 highs not at or above open
    # and close, of which that Sunday's is one, thousands of zero volumes, which are lawful.
    assert expected["null price or volume"] == 1
    nothing = checked.rejected.filter(pl.col("open").is_null()).row(0, named=True)
    assert (nothing["symbol"], nothing["session"], nothing["close"]) == ("ENGI.PA", date(2001, 1, 14), None)
    raw = pd.read_parquet(path)
    highest = raw[["open", "close"]].max(axis=1)
    assert (int((raw["high"] < highest).sum()), int((~(raw["high"] >= highest)).sum())) == (192, 193)
    assert checked.accepted.filter(pl.col("volume") == 0).height == int((sound["volume"] == 0).sum()) > 1000
    assert checked.accepted["symbol"].n_unique() == 40
    # In the same order, to the last bits of the scaled prices.
    ordered = sound.sort_values(["symbol", "date"])
    assert checked.accepted["symbol"].to_list() == ordered["symbol"].to_list()
    assert checked.accepted["close"].to_list() == pytest.approx(ordered["close"].to_list(), rel=1e-15)


def test_the_european_panels_impossible_adjusted_closes_are_set_aside_with_the_prices_that_came() -> None:
    path = shared_file("data/europe_1989_2017.parquet")
    raw = pd.read_parquet(path)
    factor = raw["adj_close"] / raw["close"]
    # One symbol's: 1,064 are negative; those of a year are far above a close that no reverse split follows.
    assert set(raw["symbol"][(factor <= 0) | (factor > 1.05)]) == {"ACA.PA"}
    assert int((raw["adj_close"] < 0).sum()) == 1064
    above = raw[factor > 1.05]["date"]
    assert (above.min(), above.max()) == (date(2004, 10, 21), date(2005, 10, 19))
    assert not before_a_reverse_split(raw)[raw["symbol"] == "ACA.PA"].any()

    checked = load(path)
    aside = checked.rejected.filter(pl.col("symbol") == "ACA.PA").rename({"session": "date"})
    impossible = pl.from_pandas(raw[(factor <= 0) | (factor > 1.05)])
    # Each of them is rejected, for its order of prices where that is broken too, and none is changed.
    key = ["date", "open", "high", "low", "close", "volume"]
    assert impossible.height == 1064 + len(above)
    assert impossible.join(aside.cast({"date": impossible.schema["date"]}), on=key, how="anti").is_empty()
    # Of its bars that are left none has an adjusted price that a holder could not have seen.
    left = checked.accepted.filter(pl.col("symbol") == "ACA.PA")["close"].to_numpy()
    assert abs(left[1:] / left[:-1] - 1).max() < 0.5


def test_in_ci_the_real_panels_are_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_TESTS_COMPLETE", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-panel"):
        shared_file("data/no-such-panel.parquet")
    monkeypatch.delenv("BOURSOMATIC_TESTS_COMPLETE")
    assert "BOURSOMATIC_TESTS_COMPLETE" not in os.environ
    with pytest.raises(pytest.skip.Exception, match="no-such-panel"):
        shared_file("data/no-such-panel.parquet")
