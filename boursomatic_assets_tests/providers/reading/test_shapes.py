"""Price files in the shapes in which people keep them: the right values, or the reason in words."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from boursomatic_assets.core.market.bars import CheckedBars, check_bars
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.reading.rows import COPIES_OF_FILES, FILLED_IN, IDLE_AFTER_THE_END

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 1, 1)
BAR = (10.0, 12.0, 9.0, 11.0, 1000.0)
HEADER = "Date,Symbol,Open,High,Low,Close,Volume"


def written(folder: Path, text: str | bytes, name: str = "prices.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def checked(path: Path) -> CheckedBars:
    return check_bars(FilesProvider(path).bars(), today=TODAY)


def rows(path: Path) -> list[tuple[object, ...]]:
    found = checked(path)
    assert found.rejected.is_empty(), found.reasons()
    return found.accepted.rows()


def refusal(path: Path) -> str:
    with pytest.raises(SourceFileError) as caught:
        FilesProvider(path).bars()
    return str(caught.value)


def exchanges(path: Path) -> dict[str, str]:
    return dict(FilesProvider(path).instruments().select("symbol", "exchange").iter_rows())


EXPORTS = {
    "yfinance": "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n"
    "2024-01-31,11,12,9,10,1000\n",
    "Nasdaq": "Date,Close/Last,Volume,Open,High,Low\n01/31/2024,$11,1000,$10,$12,$9\n",
    "Stooq": "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
    "AAPL.US,D,20240131,000000,10,12,9,11,1000,0\n",
    "Investing": '"Date","Price","Open","High","Low","Vol.","Change %"\n'
    '"01/31/2024","11.00","10.00","12.00","9.00","1.00K","1%"\n',
    "EODHD": "Date,Open,High,Low,Close,Adjusted_close,Volume\n2024-01-31,10,12,9,11,11,1000\n",
    "Tiingo": "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor\n"
    "2024-01-31T00:00:00+00:00,22,24,18,20,500,11,12,9,10,1000,0,1\n",
    "Alpha Vantage": "timestamp,open,high,low,close,volume\n2024-01-31,10,12,9,11,1000\n",
    "Boursorama": "date\touv\thaut\tbas\tclot\tvol\tdevise\t\n31/01/2024 00:00\t10\t12\t9\t11\t1000\tEUR\t\n",
    "Euronext": '"Historical Data"\n"From 2024-01-01 to 2024-01-31"\nFR0000121014\n'
    'Date;Open;High;Low;Last;Close;"Number of Shares";"Number of Trades";Turnover;vwap\n'
    "31/01/2024;10,00;12,00;9,00;11,00;11,00;1 000;12;11000;11\n",
    "Polygon": "T,v,o,c,h,l,t\nAAPL,1000,10,11,12,9,1706677200000\n",
    "TradingView": "time,open,high,low,close,Volume,Volume MA\n1706711400,10,12,9,11,1000,900\n",
    "Bloomberg": "Date\tPX_OPEN\tPX_HIGH\tPX_LOW\tPX_LAST\tPX_VOLUME\n01/31/2024\t10\t12\t9\t11\t1000\n",
    "Refinitiv": "Instrument,Date,Price Close,Price Open,Price High,Price Low,Volume\n"
    "AAPL.O,2024-01-31T00:00:00Z,11,10,12,9,1000\n",
    "SimFin": "Ticker;SimFinId;Date;Open;High;Low;Close;Adj. Close;Volume;Dividend;Shares Outstanding\n"
    "AAPL;111052;2024-01-31;20;24;18;22;11;1000;;15460\n",
    "MetaTrader": "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    "2024.01.31\t10\t12\t9\t11\t7\t1000\t1\n",
    "Quandl": "ticker,date,open,high,low,close,volume,ex-dividend,split_ratio,adj_open,adj_high,adj_low,adj_close,"
    "adj_volume\nAAPL,2024-01-31,20,24,18,22,500,0,1,10,12,9,11,1000\n",
    "Yahoo's page": "Date\tOpen\tHigh\tLow\tClose Close price adjusted for splits.\tAdj Close Adjusted close price "
    "adjusted for splits and dividend and/or capital gain distributions.\tVolume\n"
    "Jan 31, 2024\t20\t24\t18\t22\t11\t1000\n",
    "pandas, without a name of the index": ",Open,High,Low,Close,Volume\n"
    "2024-01-31 00:00:00-05:00,10,12,9,11,1000\n",
}


@pytest.mark.parametrize("make", EXPORTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_an_export_of_any_make_is_read(tmp_path: Path, make: str, encoding: str) -> None:
    written(tmp_path, EXPORTS[make].encode(encoding), "AAPL.csv")
    assert rows(tmp_path) == [("AAPL", date(2024, 1, 31), *BAR)]


def test_a_table_of_several_tickers_as_yfinance_writes_it(tmp_path: Path) -> None:
    index = pd.DatetimeIndex(["2024-01-31", "2024-02-01"], name="Date")
    fields, tickers = ("Close", "High", "Low", "Open", "Volume"), ("AAPL", "MC.PA")
    columns = pd.MultiIndex.from_product([fields, tickers], names=["Price", "Ticker"])
    values = [[11, 22, 12, 24, 9, 18, 10, 20, 1000, 500], [12, 23, 13, 25, 9, 18, 10, 20, 1001, 501]]
    frame = pd.DataFrame(values, index=index, columns=columns)
    frame.to_csv(tmp_path / "by field.csv")
    frame.swaplevel(axis=1).sort_index(axis=1).to_csv(tmp_path / "by ticker.csv")
    frame.to_parquet(tmp_path / "flat.parquet")
    for path in tmp_path.iterdir():
        found = rows(path)
        assert found[0] == ("AAPL", date(2024, 1, 31), 10, 12, 9, 11, 1000), path
        assert found[3] == ("MC.PA", date(2024, 2, 1), 20, 25, 18, 23, 501), path
        assert len(found) == 4


@pytest.mark.parametrize(
    ("cells", "price", "volume"),
    [
        ("1,002.55", 1002.55, "1,000"),
        ("1.002,55", 1002.55, "1.000"),
        ("1 002,55", 1002.55, "1 000"),
        ("1'002.55", 1002.55, "1'000"),
        ("$1,002.55", 1002.55, "1,000"),
        ("1.002,55 €", 1002.55, "1\u202f000"),
        ("1002,55", 1002.55, "1000"),
        ("1002.55", 1002.55, "1.00K"),
        ("1002.55", 1002.55, "0.001M"),
        ("1.00255e3", 1002.55, "1e3"),
        ("0.125", 0.125, "1000"),
        ("9.345", 9.345, "1000"),
    ],
)
def test_numbers_are_read_by_what_their_column_shows(tmp_path: Path, cells: str, price: float, volume: str) -> None:
    line = ",".join(f'"{cell}"' for cell in ("2024-01-31", "AAPL", *[cells] * 4, volume))
    assert rows(written(tmp_path, f"{HEADER}\n{line}\n")) == [("AAPL", date(2024, 1, 31), *[price] * 4, 1000)]


@pytest.mark.parametrize(
    ("price", "volume", "name", "quoted"),
    [
        # Each may be a number or a thousandth of it.
        ("1,002", "1000", "open", "'1,002'"),
        ("10.5", "21.220", "volume", "'21.220'"),
        ("10,5", "21,220", "volume", "'21,220'"),
        ("10.5", "12,5", "volume", "'12,5'"),
        ("eleven", "1000", "open", "'eleven'"),
    ],
)
def test_a_column_of_numbers_that_can_be_read_two_ways_is_refused(
    tmp_path: Path, price: str, volume: str, name: str, quoted: str
) -> None:
    line = ",".join(f'"{cell}"' for cell in ("2024-01-31", "AAPL", *[price] * 4, volume))
    said = refusal(written(tmp_path, f"{HEADER}\n{line}\n"))
    assert f"for {name}; found {quoted}" in said
    assert "(line 2)" in said


def test_a_decimal_comma_that_splits_a_cell_is_noticed(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, f"{HEADER}\n2024-01-31,AAPL,10,5,12,5,9,5,11,5,1000\n"))
    assert "as many cells in a row as the header has" in said


def test_one_message_says_everything_that_is_in_the_way(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, "Date,Symbol,Open,High,Low\n31/01/24,AAPL,ten,12,9\n"))
    for word in ("none found for close, volume", "found 31/01/24", "for open; found 'ten'", "line 2"):
        assert word in said


MOMENTS = {
    "2024-01-30 23:00:00+00:00": ("MC.PA", 31),
    "2024-06-30 22:00:00Z": ("MC.PA", 1),
    "2024-01-31T21:00:00+00:00": ("AAPL", 31),
    "2024-01-31T05:00:00.000Z": ("AAPL", 31),
    "2024-01-31 00:00:00+00:00": ("AAPL", 31),
    "2024-01-31 00:00:00-05:00": ("MC.PA", 31),
    "2024-01-30T15:00:00Z": ("7203.T", 31),
    "2024-07-01 00:00 CEST": ("MC.PA", 1),
    "1706655600": ("MC.PA", 31),
    "1706677200000": ("AAPL", 31),
    "1706659200000000": ("AAPL", 31),
}


@pytest.mark.parametrize("text", MOMENTS)
def test_a_moments_date_is_that_of_the_exchanges_clock_and_midnight_of_utc_stays(tmp_path: Path, text: str) -> None:
    symbol, day = MOMENTS[text]
    ((_, session, *_),) = rows(written(tmp_path, f"{HEADER}\n{text},{symbol},10,12,9,11,1000\n"))
    assert isinstance(session, date)
    assert session.day == day


def test_a_moment_of_an_unknown_exchange_has_no_date(tmp_path: Path) -> None:
    found = checked(written(tmp_path, f"{HEADER}\n2024-01-30 23:00:00+00:00,X.YZ,10,12,9,11,1000\n"))
    assert found.accepted.is_empty()
    (reason,) = found.rejected["reason"]
    assert reason.startswith("a moment, where the exchange's clock is not known: 2024-01-30 23:00")


def test_two_files_of_one_make_may_write_their_dates_in_two_orders(tmp_path: Path) -> None:
    for name, dates in {"AAPL": ("05/06/2024", "05/16/2024"), "MC.PA": ("06/05/2024", "16/05/2024")}.items():
        lines = "".join(f"{day},10,12,9,11,1000\n" for day in dates)
        written(tmp_path, f"Date,Open,High,Low,Close,Volume\n{lines}", f"{name}.csv")
    sessions = [row[:2] for row in rows(tmp_path)]
    assert sessions == [(name, date(2024, 5, day)) for name in ("AAPL", "MC.PA") for day in (6, 16)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Exceeded the daily hits limit\n", "Stooq's refusal 'Exceeded the daily hits limit', no table"),
        ("No data\n", "an answer without data"),
        ("<!DOCTYPE html><html></html>", "a web page"),
        ('{"chart": {}}', "JSON"),
        ("", "is empty"),
        ("just a remark\n", "none found for"),
        ("symbol,sector\nAAPL,Tech\n", "none found for"),
    ],
)
def test_a_file_that_is_no_table_is_refused_alone_and_named_beside_good_ones(
    tmp_path: Path, text: str, said: str
) -> None:
    bad = written(tmp_path, text, "IBM.csv")
    assert said in refusal(bad)
    written(tmp_path, "Date,Open,High,Low,Close,Volume\n2024-01-31,10,12,9,11,1000\n", "AAPL.csv")
    (batch,) = FilesProvider(tmp_path).batches()
    assert batch.bars.rows() == [("AAPL", date(2024, 1, 31), *BAR)]
    named = {report.symbol: report.detail for report in batch.reports if report.rows == 0}
    assert list(named) == ["IBM.csv"]
    assert said in named["IBM.csv"]


def test_folders_in_folders_hidden_files_and_archives(tmp_path: Path) -> None:
    table = "Date,Open,High,Low,Close,Volume\n2024-01-31,10,12,9,11,1000\n"
    written(tmp_path, table, "data/daily/us/nasdaq stocks/1/aapl.us.txt")
    written(tmp_path, table, "symbol=MC.PA/part-0.csv")
    written(tmp_path, gzip.compress(table.encode()), "more/ASML.AS.csv.gz")
    written(tmp_path, table, "IBM/2024.csv")
    written(tmp_path, "remark", "._IBM.csv")
    written(tmp_path, "remark", "__MACOSX/IBM.csv")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("brk-b.us.csv", table)
        archive.writestr("__MACOSX/._brk-b.us.csv", "remark")
    written(tmp_path, packed.getvalue(), "all.zip")
    assert [row[0] for row in rows(tmp_path)] == ["AAPL", "ASML.AS", "BRK.B", "IBM", "MC.PA"]


def test_rows_that_two_files_hold_alike_are_one_and_those_that_differ_are_set_aside(tmp_path: Path) -> None:
    line = "2024-01-31,AAPL,10,12,9,11,1000\n"
    written(tmp_path, f"{HEADER}\n{line}2024-02-01,AAPL,10,12,9,11,1000\n", "a.csv")
    written(tmp_path, f"{HEADER}\n{line}2024-02-01,AAPL,10,12,9,11,1001\n", "b.csv")
    (batch,) = FilesProvider(tmp_path).batches()
    assert batch.left_out == {COPIES_OF_FILES: 1}
    found = check_bars(batch.bars, today=TODAY)
    assert found.accepted["session"].to_list() == [date(2024, 1, 31)]
    assert found.reasons() == {"conflicting duplicate of a symbol and session": 2}


def test_an_excel_workbook_is_called_so(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    assert "an Excel workbook; save it as CSV UTF-8" in refusal(written(tmp_path, packed.getvalue(), "prices.csv"))


def test_the_exchanges_column_is_believed_in_any_spelling(tmp_path: Path) -> None:
    places = {
        "XPAR": "MC.PA",
        "PA": "OR.PA",
        "EPA": "AI.PA",
        "FP": "CS.PA",
        "NMS": "MSFT",
        "US": "IBM",
        "LSE": "VOD.L",
    }
    lines = "".join(
        f"2024-01-31,{symbol.partition('.')[0]},A company,10,12,9,11,1000,{place}\n"
        for place, symbol in places.items()
    )
    path = written(tmp_path, f"Date,Code,Name,Open,High,Low,Close,Volume,Exchange\n{lines}")
    expected = {"MSFT": "XNAS", "IBM": "US", "VOD.L": "unknown"}
    assert exchanges(path) == {symbol: expected.get(symbol, "XPAR") for symbol in sorted(places.values())}
    assert [row[0] for row in rows(path)] == sorted(places.values())


def test_a_symbol_and_an_exchange_that_disagree_are_set_aside(tmp_path: Path) -> None:
    text = f"{HEADER},MIC\n2024-01-31,MC.PA,10,12,9,11,1000,XNYS\n"
    assert checked(written(tmp_path, text)).reasons() == {"symbol MC.PA and exchange XNYS disagree": 1}
    assert exchanges(tmp_path / "prices.csv") == {}


def test_repeated_headers_and_remarks_are_no_rows(tmp_path: Path) -> None:
    line = "2024-01-31,AAPL,10,12,9,11,1000\n"
    text = f"{HEADER}\n{line}{HEADER}\n{line.replace('AAPL', 'IBM')},,,,,,\nSource: somebody\n"
    assert [row[0] for row in rows(written(tmp_path, text))] == ["AAPL", "IBM"]
    assert list(exchanges(tmp_path / "prices.csv")) == ["AAPL", "IBM"]


def test_a_symbol_that_cannot_be_one_is_set_aside_with_its_length(tmp_path: Path) -> None:
    line = "2024-01-31,{},10,12,9,11,1000\n"
    text = "".join([f"{HEADER}\n", *(line.format(symbol) for symbol in ("X" * 51, "A\x01B", "X" * 50))])
    found = checked(written(tmp_path, text))
    assert found.accepted["symbol"].to_list() == ["X" * 50]
    assert sorted(found.rejected["reason"]) == [
        "control character in the symbol",
        "symbol of 51 letters; at most 50 are kept",
    ]
    assert list(exchanges(tmp_path / "prices.csv")) == ["X" * 50]


def daily(symbol: str, days: list[date], volume: str = "{}") -> str:
    """Rows with a price that moves: 10.01, 10.02 and so on, and the volumes 1001, 1002."""
    return "".join(
        f"{day},{symbol},{price},{price},{price},{price},{volume.format(1000 + number)}\n"
        for number, day in enumerate(days, 1)
        for price in (f"{10 + number / 100:.2f}",)
    )


def weekdays(first: date, count: int) -> list[date]:
    return [day for day in (first + timedelta(i) for i in range(count * 2)) if day.weekday() < 5][:count]


def test_copies_on_closed_days_are_left_out_and_counted(tmp_path: Path) -> None:
    # Four weeks from Monday 2024-06-03: New York was closed on Wednesday the 19th.
    days = [day for day in weekdays(date(2024, 6, 3), 20) if day != date(2024, 6, 19)]
    frame = pd.read_csv(
        io.StringIO(f"{HEADER}\n{daily('AAPL', [*days, date(2024, 7, 1), date(2024, 7, 2)])}"), index_col=0
    )
    frame.index = pd.to_datetime(frame.index)
    filled = frame.resample("D").ffill()
    filled.index.name = "Date"
    filled.to_csv(tmp_path / "prices.csv")
    (batch,) = FilesProvider(tmp_path / "prices.csv").batches()
    # 30 days from the 3rd to 2 July; 21 sessions; four weekends and a holiday.
    assert batch.left_out == {FILLED_IN: 9}
    assert batch.bars["session"].to_list() == [*days, date(2024, 7, 1), date(2024, 7, 2)]


@pytest.mark.parametrize("volume", ["0", "500"])
@pytest.mark.parametrize(("idle", "left_out"), [(10, {IDLE_AFTER_THE_END: 10}), (9, {})])
def test_rows_after_the_last_trade_are_left_out_from_ten_on(
    tmp_path: Path, volume: str, idle: int, left_out: dict[str, int]
) -> None:
    days = weekdays(date(2024, 3, 1), 40)
    *moving, last = days[: 40 - idle]
    text = daily("AAPL", moving) + f"{last},AAPL,11.00,11.00,11.00,11.00,500\n"
    text += "".join(f"{day},AAPL,11.00,11.00,11.00,11.00,{volume}\n" for day in days[40 - idle :])
    (batch,) = FilesProvider(written(tmp_path, f"{HEADER}\n{text}")).batches()
    assert batch.left_out == left_out
    assert batch.bars.height == 40 - sum(left_out.values())


@pytest.mark.parametrize(("days", "unit"), [(7, "a week"), (30, "a month")])
def test_bars_of_weeks_and_months_are_no_daily_bars(tmp_path: Path, days: int, unit: str) -> None:
    sparse = [date(2020, 1, 3) + timedelta(days * i) for i in range(12)]
    found = checked(
        written(tmp_path, f"{HEADER}\n{daily('AAPL', sparse)}{daily('IBM', weekdays(date(2024, 1, 2), 12))}")
    )
    assert found.accepted["symbol"].unique().to_list() == ["IBM"]
    assert found.rejected["reason"].unique().to_list() == [f"no daily bar: bars {unit} apart"]


def test_intraday_rows_of_stooq_are_no_daily_bars(tmp_path: Path) -> None:
    text = EXPORTS["Stooq"].replace(",D,", ",5,")
    assert checked(written(tmp_path, text)).rejected["reason"].to_list() == ["no daily bar: period 5"]


def test_dates_that_are_a_day_early_are_refused(tmp_path: Path) -> None:
    early = [day - timedelta(1) for day in weekdays(date(2024, 1, 1), 40)]
    said = refusal(written(tmp_path, f"{HEADER}\n{daily('MC.PA', early)}"))
    assert "8 of 40 dates are Sundays and hardly one a Friday: they are a day early" in said
    late = [day + timedelta(1) for day in weekdays(date(2024, 1, 1), 40)]
    assert "8 of 40 dates are Saturdays" in refusal(written(tmp_path, f"{HEADER}\n{daily('MC.PA', late)}"))


def test_volumes_before_a_split_count_in_shares_after_it(tmp_path: Path) -> None:
    # A split of ten for one before the third session.
    text = (
        f"{HEADER},Adj Close\n2024-01-02,N,1000,1000,1000,1000,7,100\n2024-01-03,N,1010,1010,1010,1010,8,101\n"
        "2024-01-04,N,102,102,102,102,90,102\n"
    )
    read = FilesProvider(written(tmp_path, text)).bars()
    assert read["volume"].to_list() == pytest.approx([70, 80, 90])
    assert read["close"].to_list() == pytest.approx([100, 101, 102])


def test_a_column_of_adjusted_volumes_is_taken_as_it_is(tmp_path: Path) -> None:
    # The same split; its volumes are multiplied by ten already.
    text = (
        f"{HEADER},adjClose,adjVolume\n2024-01-02,N,1000,1000,1000,1000,7,100,70\n"
        "2024-01-03,N,1010,1010,1010,1010,8,101,80\n2024-01-04,N,102,102,102,102,90,102,90\n"
    )
    assert FilesProvider(written(tmp_path, text)).bars()["volume"].to_list() == [70, 80, 90]


def test_parquet_of_pandas_without_a_name_of_the_index(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"symbol": ["AAPL"], "open": [10.0], "high": [12.0], "low": [9.0], "close": [11.0], "volume": [1000]},
        index=pd.DatetimeIndex(["2024-01-31"]),
    )
    frame.to_parquet(tmp_path / "prices.parquet")
    assert rows(tmp_path / "prices.parquet") == [("AAPL", date(2024, 1, 31), *BAR)]
