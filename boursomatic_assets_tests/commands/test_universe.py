"""The commands `boursomatic universe` as a person meets them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from boursomatic_assets.commands.universe import universe
from boursomatic_assets.errors import ConfigurationError, SourceFileError
from boursomatic_assets.providers.universe import SHIPPED

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

LIST = """symbol,exchange,name,sector,market_cap_bucket,pe_bucket,currency
AAPL,XNAS,Apple,Information Technology,large,,USD
MC.PA,XPAR,LVMH [Moët],Consumer Discretionary,large,high,EUR
ATO.PA,,Atos,,small,,USD
"""
WARNING = "line 4: ATO.PA trades in another currency than its exchange's list says: USD, where XPAR has EUR"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home that the environment of every test names."""
    return tmp_path / "home"


@pytest.fixture
def own(home: Path) -> Path:
    """A list of one's own under the home."""
    home.mkdir()
    path = home / "universe.csv"
    path.write_text(LIST, encoding="utf-8")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(universe, arguments)


def said(*arguments: str) -> list[str]:
    """The lines that a command printed, which must have ended well."""
    ended = run(*arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def test_help_names_the_commands() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("show", "check", "init"):
        assert command in shown.stdout
    assert "--exchange" in run("show", "--help").stdout
    assert "--force" in run("init", "--help").stdout


def test_help_answers_without_importing_polars() -> None:
    code = "import sys, boursomatic_assets.commands.universe; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_alone_it_says_where_the_list_comes_from_and_counts_what_is_in_it() -> None:
    lines = said()
    assert lines[0] == f"Universe: {SHIPPED}"
    table = [cells(line) for line in lines if line.startswith(("│", "┃"))]
    assert table[0] == ["Sector", "XNAS", "XNYS", "XPAR", "XAMS", "XBRU", "All"]
    # the two US and the two real estate companies of Brussels, and Unibail
    assert ["Real Estate", "", "2", "1", "", "2", "5"] in table
    # 33 + 67 + 39 + 28 + 20 = 187
    assert table[-1] == ["All", "33", "67", "39", "28", "20", "187"]
    assert lines[-2:] == [
        "OK: 187 instruments on 5 exchanges, 0 warnings.",
        "A list of your own: boursomatic universe init",
    ]


def test_alone_it_checks_a_list_of_ones_own(own: Path) -> None:
    lines = said()
    assert lines[0] == f"Universe: {own}"
    table = [cells(line) for line in lines if line.startswith(("│", "┃"))]
    assert table == [
        ["Sector", "XNAS", "XPAR", "All"],
        ["Consumer Discretionary", "", "1", "1"],
        ["Information Technology", "1", "", "1"],
        ["unknown", "", "1", "1"],
        ["All", "1", "2", "3"],
    ]
    assert lines[-2:] == [f"warning  {WARNING}", "OK: 3 instruments on 2 exchanges, 1 warning."]


def test_alone_it_counts_and_fails_where_the_list_cannot_be_used(own: Path) -> None:
    own.write_text("symbol,sector\nAAPL,\nSAP.DE,[/]\n")
    ended = run()
    assert ended.exit_code == 1
    assert ["[/]", "", "1", "1"] in [cells(line) for line in ended.stdout.splitlines()]
    assert "error    line 3: SAP.DE ends like no known exchange" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "The list cannot be used: 1 error."


def test_alone_it_fails_where_the_list_is_empty(own: Path) -> None:
    own.write_text("")
    ended = run()
    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == [
        f"Universe: {own}",
        "error    line 1: expected a header with a column symbol; found nothing",
        "The list cannot be used: 1 error.",
    ]


@pytest.mark.usefixtures("own")
def test_show_prints_a_table_with_what_follows_filled_in() -> None:
    rows = [cells(line) for line in said("show") if line.startswith(("│", "┃"))]
    assert rows[0] == ["Symbol", "Exchange", "Name", "Sector", "Size", "P/E", "Currency"]
    assert rows[-1] == ["ATO.PA", "XPAR", "Atos", "", "small", "", "USD"]
    # brackets are text and no markup
    assert any("[Moët]" in cell for row in rows for cell in row)


@pytest.mark.usefixtures("own")
def test_show_prints_json_for_a_program() -> None:
    printed = json.loads("\n".join(said("show", "--json")))
    assert [row["symbol"] for row in printed] == ["AAPL", "MC.PA", "ATO.PA"]
    assert printed[2] == {
        "symbol": "ATO.PA",
        "exchange": "XPAR",
        "name": "Atos",
        "sector": None,
        "market_cap_bucket": "small",
        "pe_bucket": None,
        "currency": "USD",
    }


def test_show_prints_csv_that_is_a_list_itself(own: Path) -> None:
    lines = said("show", "--csv")
    printed = list(csv.DictReader(io.StringIO("\n".join(lines))))
    given = list(csv.DictReader(io.StringIO(LIST)))
    assert printed == [*given[:2], given[2] | {"exchange": "XPAR"}]
    own.write_text("\n".join(lines), encoding="utf-8")
    assert said("show", "--csv") == lines


def test_the_shipped_list_is_shown_as_it_is() -> None:
    assert said("show", "--csv") == SHIPPED.read_text(encoding="utf-8").splitlines()


@pytest.mark.usefixtures("own")
def test_show_keeps_the_instruments_of_one_exchange() -> None:
    assert [line.split(",")[0] for line in said("show", "--csv", "--exchange", " xpar")] == [
        "symbol",
        "MC.PA",
        "ATO.PA",
    ]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exchange", "XBRU"], ["no instrument is on 'XBRU'", "there are: XNAS, XPAR"]),
        (["--json", "--csv"], ["choose one of --json and --csv"]),
    ],
)
def test_show_refuses_what_it_cannot_do(arguments: list[str], message: list[str]) -> None:
    ended = run("show", *arguments)
    assert ended.exit_code == 2
    plain = " ".join(ended.stderr.replace("│", " ").split())
    for part in message:
        assert part in plain


def test_show_stops_at_a_list_that_cannot_be_used(own: Path) -> None:
    own.write_text("symbol\nAAPL\nAAPL\n")
    ended = run("show")
    assert ended.exit_code == 1
    assert isinstance(ended.exception, SourceFileError)
    assert "line 3: AAPL is on line 2 already" in str(ended.exception)


def test_check_judges_the_list_in_use_and_any_other(own: Path, tmp_path: Path) -> None:
    assert said("check") == [
        f"List: {own}",
        f"warning  {WARNING}",
        "OK: 3 instruments on 2 exchanges, 1 warning.",
    ]
    other = tmp_path / "other.csv"
    other.write_text("symbol\nAAPL\n")
    assert said("check", str(other)) == [f"List: {other}", "OK: 1 instrument on 1 exchange, 0 warnings."]


def test_check_prints_every_problem_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("symbol,exchange,currency\nMC.PA,XNYS,EUR\nATO.PA,XPAR,USD\nMC.PA,XPAR,€\n", encoding="utf-8")
    ended = run("check", str(path))
    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == [
        f"List: {path}",
        "error    line 2: MC.PA is on XPAR by its suffix, on XNYS by its exchange",
        "error    line 4: MC.PA is on line 2 already",
        "error    line 4: currency '€'; expected three capital letters, such as EUR",
        "warning  line 3: ATO.PA trades in another currency than its exchange's list says: USD, where XPAR has EUR",
        "The list cannot be used: 3 errors.",
    ]


def test_check_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    ended = run("check", str(tmp_path / "missing.csv"))
    assert isinstance(ended.exception, SourceFileError)
    assert f"no list of instruments at {tmp_path / 'missing.csv'}" in str(ended.exception)


def test_init_copies_the_shipped_list_and_says_what_comes_next(home: Path) -> None:
    assert said("init") == [str(home / "universe.csv"), "Edit it, then: boursomatic universe check"]
    assert (home / "universe.csv").read_bytes() == SHIPPED.read_bytes()
    assert said()[0] == f"Universe: {home / 'universe.csv'}"
    assert "universe init" not in said()[-1]


def test_init_keeps_a_list_that_is_there_unless_forced(own: Path) -> None:
    ended = run("init")
    assert isinstance(ended.exception, ConfigurationError)
    assert "universe init --force" in str(ended.exception)
    assert own.read_text(encoding="utf-8") == LIST
    said("init", "--force")
    assert own.read_bytes() == SHIPPED.read_bytes()


def test_init_warns_where_another_list_is_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_UNIVERSE", "other.csv")
    assert said("init")[:2] == [
        str(home / "universe.csv"),
        "Not in use as long as BOURSOMATIC_UNIVERSE names other.csv",
    ]
