from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA
from boursomatic_assets.core.market.calendars import CURRENCY_OF_CALENDAR, calendar_of
from boursomatic_assets.errors import ConfigurationError, SourceFileError
from boursomatic_assets.providers.symbols import exchange_of
from boursomatic_assets.providers.universe import (
    SHIPPED,
    copy_shipped,
    read_listing,
    read_universe,
    universe_place,
)
from boursomatic_assets.providers.universe_check import (
    BUCKETS,
    Listing,
    Row,
    check_universe,
    completed,
    instruments_of,
)
from boursomatic_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS = tuple(INSTRUMENT_SCHEMA)
HEADER = ",".join(COLUMNS)
GICS_SECTORS = {
    "Communication Services", "Consumer Discretionary", "Consumer Staples", "Energy", "Financials", "Health Care",
    "Industrials", "Information Technology", "Materials", "Real Estate", "Utilities",
}  # fmt: skip
ENDINGS = {"XNAS": "", "XNYS": "", "XPAR": ".PA", "XAMS": ".AS", "XBRU": ".BR"}


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict[str, str]]:
    """The shipped list by symbol, as another reader reads it."""
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return {row["symbol"]: row for row in rows}


def settings_with(home: Path, universe: Path | str | None = None) -> Settings:
    named = {} if universe is None else {"BOURSOMATIC_UNIVERSE": str(universe)}
    return Settings.from_environment({"BOURSOMATIC_HOME": str(home), **named})


def read_text(folder: Path, text: str) -> pl.DataFrame:
    path = folder / "list.csv"
    path.write_bytes(text.encode())
    return read_universe(settings_with(folder, path))


def refusal(folder: Path, text: str) -> list[str]:
    """The problems that the error names, one a line, without what frames them."""
    with pytest.raises(SourceFileError) as caught:
        read_text(folder, text)
    first, *problems, last = str(caught.value).split("\n")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    path = folder / "list.csv"
    assert first == f"{path}: expected a list of instruments that can be used; found {count}:"
    assert last == f"Correct the file, then: boursomatic universe check {path}"
    return [problem.strip() for problem in problems]


def listing_of(rows: Sequence[Mapping[str, str]]) -> Listing:
    return Listing(COLUMNS, tuple(Row(line, dict(row)) for line, row in enumerate(rows, start=2)))


def test_the_shipped_list_holds_what_is_said_of_it(shipped: dict[str, dict[str, str]]) -> None:
    counts = Counter(row["exchange"] for row in shipped.values())
    # 100 US companies, and those of CAC 40 (ArcelorMittal is listed in Amsterdam too), AEX and BEL 20
    assert counts == {"XNAS": 33, "XNYS": 67, "XPAR": 39, "XAMS": 28, "XBRU": 20}
    assert sum(counts.values()) == len(SHIPPED.read_text(encoding="utf-8").splitlines()) - 1


def test_suffix_exchange_and_currency_agree_in_each_shipped_row(shipped: dict[str, dict[str, str]]) -> None:
    for symbol, row in shipped.items():
        ending = ENDINGS[row["exchange"]]
        assert symbol.endswith(ending)
        assert ending or not symbol.endswith((".PA", ".AS", ".BR"))
        assert row["currency"] == ("EUR" if ending else "USD")


def test_shipped_sectors_are_those_of_gics(shipped: dict[str, dict[str, str]]) -> None:
    assert {row["sector"] for row in shipped.values()} - {""} == GICS_SECTORS
    # a holding whose sector depends on who classifies it
    assert [symbol for symbol, row in shipped.items() if not row["sector"]] == ["ACKB.BR"]


def test_shipped_names_and_buckets_are_given_and_nothing_else_is_made_up(
    shipped: dict[str, dict[str, str]],
) -> None:
    names = [row["name"] for row in shipped.values()]
    assert all(name == name.strip() and name for name in names)
    assert len(set(names)) == len(names)
    assert {row["market_cap_bucket"] for row in shipped.values()} == {"mid", "large"}
    assert {row["pe_bucket"] for row in shipped.values()} == {""}


@pytest.mark.parametrize(
    ("symbol", "exchange", "name", "sector"),
    [
        ("AAPL", "XNAS", "Apple", "Information Technology"),
        ("BRK.B", "XNYS", "Berkshire Hathaway (Class B)", "Financials"),
        ("META", "XNAS", "Meta Platforms", "Communication Services"),
        # moved from the NYSE: Honeywell in May 2021, Palantir in November 2024, Walmart in December 2025
        ("HON", "XNAS", "Honeywell Technologies", "Industrials"),
        ("PLTR", "XNAS", "Palantir Technologies", "Information Technology"),
        ("WMT", "XNAS", "Walmart", "Consumer Staples"),
        ("ORCL", "XNYS", "Oracle", "Information Technology"),
        # since the GICS changes of March 2023 no longer Information Technology
        ("V", "XNYS", "Visa", "Financials"),
        ("MC.PA", "XPAR", "LVMH", "Consumer Discretionary"),
        ("AIR.PA", "XPAR", "Airbus", "Industrials"),
        ("STMPA.PA", "XPAR", "STMicroelectronics", "Information Technology"),
        ("ASML.AS", "XAMS", "ASML", "Information Technology"),
        ("MT.AS", "XAMS", "ArcelorMittal", "Materials"),
        ("UCB.BR", "XBRU", "UCB", "Health Care"),
        ("SOLB.BR", "XBRU", "Solvay", "Materials"),
    ],
)
def test_shipped_companies_that_are_known(
    shipped: dict[str, dict[str, str]], symbol: str, exchange: str, name: str, sector: str
) -> None:
    assert [shipped[symbol][column] for column in ("exchange", "name", "sector")] == [exchange, name, sector]


@pytest.mark.parametrize("symbol", ["FB", "BRK-B", "BK", "FP.PA", "STM.PA", "AIR.AS", "MT.PA", "URW.AS", "COFB.BR"])
def test_former_symbols_and_second_listings_are_not_shipped(
    shipped: dict[str, dict[str, str]], symbol: str
) -> None:
    assert symbol not in shipped


def test_the_shipped_list_is_read_whole_and_nothing_is_wrong_with_it(
    tmp_path: Path, shipped: dict[str, dict[str, str]]
) -> None:
    instruments = read_universe(settings_with(tmp_path))
    assert instruments.schema == pl.Schema(INSTRUMENT_SCHEMA)
    expected = [{name: value or None for name, value in row.items()} for row in shipped.values()]
    assert instruments.to_dicts() == expected
    found = check_universe(read_listing(SHIPPED))
    assert (found.errors, found.warnings) == ((), ())


def test_the_variable_wins_over_the_home_and_the_home_over_the_shipped_list(tmp_path: Path) -> None:
    assert universe_place(settings_with(tmp_path)) == SHIPPED
    own, named = tmp_path / "universe.csv", tmp_path / "named.csv"
    own.write_text("symbol\nOWN\n")
    assert universe_place(settings_with(tmp_path)) == own
    assert read_universe(settings_with(tmp_path))["symbol"].to_list() == ["OWN"]
    named.write_text("symbol\nNAMED\n")
    assert read_universe(settings_with(tmp_path, named))["symbol"].to_list() == ["NAMED"]


def test_the_variable_may_start_with_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert universe_place(settings_with(tmp_path, "~/mine.csv")) == tmp_path / "mine.csv"


def test_a_list_that_is_named_and_not_there_is_an_error_and_not_the_shipped_list(tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    with pytest.raises(SourceFileError, match=r"no list of instruments at .*missing\.csv.*BOURSOMATIC_UNIVERSE"):
        read_universe(settings_with(tmp_path, missing))


def test_a_copy_of_the_shipped_list_is_the_same_and_is_then_in_use(tmp_path: Path) -> None:
    at_home = settings_with(tmp_path / "new" / "home")
    place = copy_shipped(at_home, overwrite=False)
    assert place.read_bytes() == SHIPPED.read_bytes()
    assert universe_place(at_home) == place
    assert list(place.parent.iterdir()) == [place]


def test_a_list_that_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    own = tmp_path / "universe.csv"
    own.write_text("symbol\nOWN\n")
    with pytest.raises(ConfigurationError, match=r"universe\.csv exists already.*universe init --force"):
        copy_shipped(settings_with(tmp_path), overwrite=False)
    assert own.read_text() == "symbol\nOWN\n"
    copy_shipped(settings_with(tmp_path), overwrite=True)
    assert own.read_bytes() == SHIPPED.read_bytes()


def test_a_home_that_cannot_be_written_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match=r"home/universe\.csv cannot be written.*BOURSOMATIC_HOME"):
        copy_shipped(settings_with(tmp_path / "home"), overwrite=False)
    # a folder in the list's place: the copy was written beside it, and is gone
    (tmp_path / "other" / "universe.csv" / "in the way").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        copy_shipped(settings_with(tmp_path / "other"), overwrite=True)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["universe.csv"]


def test_only_the_symbol_is_compulsory_and_the_rest_follows_or_is_null(tmp_path: Path) -> None:
    read = read_text(tmp_path, "symbol\nAAPL\nBRK.B\nMC.PA\nASML.AS\nUCB.BR\n")
    assert read.schema == pl.Schema(INSTRUMENT_SCHEMA)
    assert read.select("symbol", "exchange", "currency").rows() == [
        ("AAPL", "US", "USD"),
        ("BRK.B", "US", "USD"),
        ("MC.PA", "XPAR", "EUR"),
        ("ASML.AS", "XAMS", "EUR"),
        ("UCB.BR", "XBRU", "EUR"),
    ]
    assert read.drop("symbol", "exchange", "currency").null_count().row(0) == (5, 5, 5, 5)


@pytest.mark.parametrize(
    "text",
    [
        "symbol,exchange,name\nAAPL,XNAS,Apple\nMC.PA,XPAR,LVMH\n",
        "symbol,exchange,name\nAAPL,XNAS,Apple\nMC.PA,XPAR,LVMH",
        "\ufeffsymbol,exchange,name\r\nAAPL,XNAS,Apple\r\nMC.PA,XPAR,LVMH\r\n",
        "\n\nsymbol,exchange,name\n\nAAPL,XNAS,Apple\n,,\n  \nMC.PA,XPAR,LVMH\n\n",
        " SYMBOL , Exchange ,NAME\n AAPL , XNAS , Apple \nMC.PA ,XPAR, LVMH\n",
        "name,symbol,exchange\nApple,AAPL,XNAS\nLVMH,MC.PA,XPAR\n",
        "symbol;exchange;name\nAAPL;XNAS;Apple\nMC.PA;XPAR;LVMH\n",
        'symbol,exchange,name\n"AAPL", "XNAS","Apple"\nMC.PA,XPAR, "LVMH"\n',
        "symbol,exchange,name,,\nAAPL,XNAS,Apple,,\nMC.PA,XPAR,LVMH,,,,\n",
        "symbol,exchange,name\naapl,xnas,Apple\nmc.pa,xpar,LVMH\n",
        "symbol,exchange,name,note\nAAPL,XNAS,Apple,mine\nMC.PA,XPAR,LVMH,\n",
    ],
    ids=[
        "plain", "no end of line", "BOM and CRLF", "blank lines", "spaces and case", "column order", "semicolons",
        "quotes", "columns without a name", "lower case", "a column of one's own",
    ],
)  # fmt: skip
def test_the_same_list_however_it_was_written(tmp_path: Path, text: str) -> None:
    read = read_text(tmp_path, text)
    assert read.select("symbol", "exchange", "name").rows() == [
        ("AAPL", "XNAS", "Apple"),
        ("MC.PA", "XPAR", "LVMH"),
    ]


def test_rows_may_be_shorter_than_the_header_and_texts_may_hold_commas_and_line_breaks(tmp_path: Path) -> None:
    read = read_text(tmp_path, f'{HEADER}\nAAPL\nKO,XNYS,"Coca-Cola\nCompany, The",,Large,HIGH\n')
    assert read.rows() == [
        ("AAPL", "US", None, None, None, None, "USD"),
        ("KO", "XNYS", "Coca-Cola\nCompany, The", None, "large", "high", "USD"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("symbol\nAAPL\nMSFT\naapl \n", "line 4: AAPL is on line 2 already"),
        ("symbol,name\nAAPL,Apple\n  ,Nobody\n", "line 3: blank symbol"),
        (
            "symbol\nBRK B\n",
            "line 2: symbol 'BRK B'; expected letters and digits with dots or hyphens between, such as BRK.B",
        ),
        (
            "symbol,exchange\nSAP.DE,XETR\n",
            "line 2: unknown exchange 'XETR'; known are US, XNYS, XNAS, XPAR, XAMS and XBRU",
        ),
        (
            "symbol\nSAP.DE\n",
            "line 2: SAP.DE ends like no known exchange; known are .PA, .AS, .BR, and a class as in BRK.B",
        ),
        (
            "symbol,exchange\nMC.PA,XNYS\n",
            "line 2: MC.PA is on XPAR by its suffix, on XNYS by its exchange",
        ),
        (
            "symbol,exchange\nMC.PA,Amsterdam\n",
            "line 2: MC.PA is on XPAR by its suffix, on AMSTERDAM by its exchange",
        ),
        (
            "symbol,market_cap_bucket\nAAPL,huge\n",
            "line 2: market_cap_bucket 'huge'; expected small, mid, large or nothing",
        ),
        ("symbol,pe_bucket\nAAPL,mid\n", "line 2: pe_bucket 'mid'; expected low, medium, high or nothing"),
        ("symbol,currency\nAAPL,usd\n", "line 2: currency 'usd'; expected three capital letters, such as EUR"),
        ("symbol,currency\nAAPL,US$\n", "line 2: currency 'US$'; expected three capital letters, such as EUR"),
        (
            "symbol,name\nT,AT&T, Inc.\n",
            "line 2: 1 more than the header's columns; put a text that holds a comma in double quotes",
        ),
        ("AAPL\nMSFT\n", "line 1: expected a header with a column symbol; found aapl"),
        ("\nticker,exchange\nAAPL,\n", "line 2: expected a header with a column symbol; found ticker, exchange"),
        ("", "line 1: expected a header with a column symbol; found nothing"),
        (f"{HEADER}\n\n", "line 1: expected at least one instrument below the header; the list is empty"),
        ("symbol,name,Symbol\nA,B,C\n", "line 1: expected each column once; symbol is there 2 times"),
    ],
)
def test_each_problem_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(tmp_path, text) == [problem]


def test_every_problem_is_listed_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = f'{HEADER}\n\nMC.PA,XNYS,,,big\n"KO","XNYS","two\nlines"\n,XLON\nMC.PA,,,,,,EURO\n'
    assert [problem.split(";")[0] for problem in refusal(tmp_path, text)] == [
        "line 3: MC.PA is on XPAR by its suffix, on XNYS by its exchange",
        "line 3: market_cap_bucket 'big'",
        # line 4 goes on to line 5
        "line 6: blank symbol",
        "line 6: unknown exchange 'XLON'",
        "line 7: MC.PA is on line 3 already",
        "line 7: currency 'EURO'",
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_a_file_in_another_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes("symbol,name\nRMS.PA,Hermès\n".encode(encoding))
    assert read_universe(settings_with(tmp_path, path)).select("symbol", "name").rows() == [("RMS.PA", "Hermès")]


def test_symbols_and_exchanges_may_be_spelled_as_other_sources_do(tmp_path: Path) -> None:
    text = "symbol\texchange\nEPA:MC\tPA\nAAPL.US\tNMS\nasml na\tEuronext Amsterdam\n^GSPC\t\n"
    assert read_text(tmp_path, text).select("symbol", "exchange").rows() == [
        ("MC.PA", "XPAR"),
        ("AAPL", "XNAS"),
        ("ASML.AS", "EURONEXT AMSTERDAM"),
        ("^GSPC", "US"),
    ]


def test_an_isin_is_named_as_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, "symbol\nFR0000121014\n") == [
        "line 2: FR0000121014 is an ISIN; expected the exchange's own symbol, such as MC.PA",
    ]


def test_an_open_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('symbol,name\nAAPL,Apple\nMC.PA,"LVMH\nUCB.BR,UCB\n')
    with pytest.raises(SourceFileError, match=r"list\.csv cannot be read as CSV: line 3: "):
        read_listing(path)


def test_a_folder_is_not_a_list(tmp_path: Path) -> None:
    with pytest.raises(SourceFileError, match="cannot be read as CSV"):
        read_listing(tmp_path)


def warnings_of(row: dict[str, str]) -> tuple[str, ...]:
    found = check_universe(listing_of([row]))
    assert found.errors == ()
    return found.warnings


def test_a_currency_that_is_not_the_exchanges_is_a_warning() -> None:
    row = {"symbol": "ATO.PA", "exchange": "XPAR", "currency": "USD"}
    assert warnings_of(row) == (
        "line 2: ATO.PA trades in another currency than its exchange's list says: USD, where XPAR has EUR",
    )
    assert warnings_of(row | {"currency": "EUR"}) == ()


def test_a_symbol_without_the_suffix_of_its_exchange_is_a_warning() -> None:
    assert warnings_of({"symbol": "ATOS", "exchange": "XPAR", "currency": "USD"}) == (
        "line 2: ATOS trades in another currency than its exchange's list says: USD, where XPAR has EUR",
        "line 2: ATOS on XPAR lacks the suffix .PA; a source may take it for a US symbol",
    )
    assert warnings_of({"symbol": "ASML", "exchange": "Amsterdam"}) == (
        "line 2: ASML on AMSTERDAM lacks the suffix .AS; a source may take it for a US symbol",
    )


def test_a_column_that_is_not_known_is_a_warning() -> None:
    listing = Listing(("symbol", "exchagne", ""), (Row(2, {"symbol": "AAPL", "exchagne": "XNAS"}),))
    found = check_universe(listing)
    assert found.errors == ()
    assert found.warnings == (
        f"line 1: column 'exchagne' is not known and left out; known are {', '.join(COLUMNS)}",
    )


def test_a_row_with_an_error_has_no_warnings_too() -> None:
    found = check_universe(listing_of([{"symbol": "ATO.PA", "currency": "usd"}]))
    assert len(found.errors) == 1
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("symbol", "exchange"),
    [
        ("AAPL", "US"), ("BRK.B", "US"), ("BRK-B", "US"), ("MC.PA", "XPAR"), ("ASML.AS", "XAMS"),
        ("UCB.BR", "XBRU"), ("SAP.DE", None),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_exchange(symbol: str, exchange: str | None) -> None:
    assert exchange_of(symbol) == exchange


_stems = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=5)
_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip)


@st.composite
def lawful_rows(draw: st.DrawFn) -> dict[str, str]:
    exchange = draw(st.sampled_from(sorted(ENDINGS)))
    return {
        "symbol": draw(_stems) + ENDINGS[exchange],
        "exchange": exchange,
        "name": draw(_texts),
        "sector": draw(_texts),
        **{name: draw(st.sampled_from(["", *buckets])) for name, buckets in BUCKETS.items()},
        "currency": CURRENCY_OF_CALENDAR[calendar_of(exchange) or ""],
    }


lawful_lists = st.lists(lawful_rows(), min_size=1, max_size=8, unique_by=lambda row: row["symbol"])
_cells = st.one_of(
    _texts, st.sampled_from(["AAPL", "MC.PA", "SAP.DE", "XPAR", "XNYS", "US", "large", "low", "EUR"])
)


@settings(deadline=None, max_examples=60)
@given(rows=lawful_lists, data=st.data())
def test_any_lawful_list_is_read_back_however_it_is_written(
    rows: list[dict[str, str]], data: st.DataObject
) -> None:
    columns = data.draw(st.permutations(COLUMNS))
    padding = data.draw(st.sampled_from(["", " ", "  "]))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(padding + data.draw(st.sampled_from([name, name.upper(), name.title()])) for name in columns)
    for row in rows:
        text.write(end * data.draw(st.integers(0, 2)))
        writer.writerow(padding + row[name] + padding for name in columns)
    bom = data.draw(st.sampled_from(["", "\ufeff"]))
    with tempfile.TemporaryDirectory() as folder:
        read = read_text(Path(folder), bom + text.getvalue())
    assert read.to_dicts() == [{name: row[name] or None for name in COLUMNS} for row in rows]


@settings(deadline=None)
@given(rows=lawful_lists)
def test_what_follows_from_the_symbol_need_not_be_said(rows: list[dict[str, str]]) -> None:
    bare = [{**row, "exchange": "", "currency": ""} for row in rows]
    found = check_universe(listing_of(bare))
    assert (found.errors, found.warnings) == ((), ())
    given_, followed = instruments_of(listing_of(rows)), instruments_of(listing_of(bare))
    assert followed.drop("exchange").equals(given_.drop("exchange"))
    calendars = [[calendar_of(exchange) for exchange in frame["exchange"]] for frame in (given_, followed)]
    assert calendars[0] == calendars[1]


@settings(deadline=None)
@given(rows=lawful_lists, data=st.data())
def test_a_row_that_comes_twice_is_named_with_both_lines(rows: list[dict[str, str]], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 1))
    later = data.draw(st.integers(first + 1, len(rows)))
    copies = [*rows[:later], rows[first], *rows[later:]]
    found = check_universe(listing_of(copies))
    # the first row is on line 2, below the header
    assert found.errors == (f"line {later + 2}: {rows[first]['symbol']} is on line {first + 2} already",)


@settings(deadline=None, max_examples=200)
@given(rows=st.lists(st.dictionaries(st.sampled_from(COLUMNS), _cells), max_size=5))
def test_whatever_a_list_holds_it_is_refused_or_all_of_it_can_be_used(rows: list[dict[str, str]]) -> None:
    listing = listing_of(rows)
    instruments = instruments_of(listing)
    assert instruments.schema == pl.Schema(INSTRUMENT_SCHEMA)
    assert instruments.height == len(rows)
    if check_universe(listing).errors:
        return
    assert instruments.height
    assert instruments["symbol"].is_unique().all()
    assert instruments.select("symbol", "exchange", "currency").null_count().row(0) == (0, 0, 0)
    for row in instruments.to_dicts():
        calendar = calendar_of(row["exchange"])
        assert calendar is not None
        assert exchange_of(row["symbol"]) in {calendar, "US"}
        assert all(row[name] in (None, *buckets) for name, buckets in BUCKETS.items())


@given(cells=st.dictionaries(st.sampled_from(COLUMNS), _cells))
def test_a_completed_row_stays_as_it_is(cells: dict[str, str]) -> None:
    once = completed(Row(2, cells))
    assert completed(Row(2, {name: value or "" for name, value in once.items()})) == once
