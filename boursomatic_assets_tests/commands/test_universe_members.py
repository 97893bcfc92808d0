from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import Installation, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORED = "SELECT symbol, member_from::text, member_until::text FROM universe_members ORDER BY 1, 2"
VERSIONS = "SELECT symbol, xmin::text, ctid::text FROM universe_members ORDER BY 1, 2, 3"


@pytest.fixture(scope="module")
def home() -> Iterator[Installation]:
    with new_installation() as made:
        assert made.run("db", "upgrade").code == 0
        yield made


@pytest.fixture
def installed(home: Installation) -> Installation:
    run(home.database(), "DELETE FROM universe_members")
    return home


def listed(folder: Path, text: str) -> str:
    path = folder / "members.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_an_empty_table_says_what_that_means_and_how_to_fill_it(installed: Installation) -> None:
    shown = installed.run("universe", "members", "list")
    assert shown.code == 0
    assert "every instrument counts as a member at every session" in shown.said
    assert "boursomatic universe members import FILE.csv" in shown.said


def test_a_list_is_imported_shown_replaced_and_forgotten(installed: Installation, tmp_path: Path) -> None:
    text = "symbol,member_from,member_until\nGE,1907-11-07,2018-06-26\nWBA,2018-06-26,\n"
    done = installed.run("universe", "members", "import", listed(tmp_path, text))
    assert done.code == 0, done.said
    assert "2 memberships known: 2 added, 0 removed." in done.said
    assert "boursomatic materialize --select labels+" in done.said
    assert installed.ask(STORED) == [("GE", "1907-11-07", "2018-06-26"), ("WBA", "2018-06-26", None)]
    shown = installed.run("universe", "members", "list").said
    assert all(word in shown for word in ("GE", "1907-11-07", "2018-06-26", "WBA", "2 memberships of 2 symbols"))

    # One left, the other stays as it is: its row is not even written again.
    before = installed.ask(VERSIONS)[0]
    done = installed.run("universe", "members", "import", listed(tmp_path, text + "AA,1959-06-01,2013-09-23\n"))
    assert "3 memberships known: 1 added, 0 removed." in done.said
    ended = text.replace("2018-06-26,\n", "2018-06-26,2024-02-26\n")
    done = installed.run("universe", "members", "import", listed(tmp_path, ended))
    assert "2 memberships known: 1 added, 2 removed." in done.said
    assert installed.ask(STORED)[1] == ("WBA", "2018-06-26", "2024-02-26")
    assert installed.ask(VERSIONS)[0] == before

    done = installed.run("universe", "members", "clear")
    assert (done.code, "2 memberships removed." in done.said) == (0, True)
    assert installed.ask(STORED) == []
    again = installed.run("universe", "members", "clear")
    assert (again.code, again.said) == (0, "0 memberships removed.")


def test_the_same_list_again_changes_nothing_and_asks_for_nothing(installed: Installation, tmp_path: Path) -> None:
    path = listed(tmp_path, "symbol,member_from,member_until\nGE,1907-11-07,2018-06-26\nWBA,2018-06-26,\n")
    installed.run("universe", "members", "import", path)
    before = installed.ask(VERSIONS)
    again = installed.run("universe", "members", "import", path)
    assert (again.code, again.said) == (0, "2 memberships known: 0 added, 0 removed.")
    assert installed.ask(VERSIONS) == before


def test_a_file_of_a_spreadsheet_is_read(installed: Installation, tmp_path: Path) -> None:
    # A mark at its beginning, capitals, spaces, an empty last line, a column of its own, none for the end.
    text = "\ufeffSymbol, Member_From ,Note\r\n GE , 1907-11-07 ,one of the first\r\n,,\r\n"
    done = installed.run("universe", "members", "import", listed(tmp_path, text))
    assert done.code == 0, done.said
    assert installed.ask(STORED) == [("GE", "1907-11-07", None)]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("symbol;member_from;member_until\nge;07.11.1907;26.06.2018\nEPA:MC;26.06.2018;\n", "cp1252"),
        ("Members\n\nSymbol\tMember_From\tMember_Until\nGE\t11/7/1907\t6/26/2018\nMC FP\t6/26/2018\t\n", "utf-16"),
        ("# mine\nmember_until|symbol|member_from\n2018-06-26|GE.US|1907-11-07\n|mc.pa|2018-06-26\n", "utf-8"),
    ],
)
def test_a_list_is_read_in_the_shapes_in_which_prices_are(
    installed: Installation, tmp_path: Path, text: str, encoding: str
) -> None:
    path = tmp_path / "members.csv"
    path.write_bytes(text.encode(encoding))
    done = installed.run("universe", "members", "import", str(path))
    assert done.code == 0, done.said
    assert installed.ask(STORED) == [("GE", "1907-11-07", "2018-06-26"), ("MC.PA", "2018-06-26", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("symbol,member_until\nGE,2018-06-26\n", ("lacks the columns ['member_from']", "found")),
        ("symbol,member_from\nGE,05.06.2018\n", ("found 05.06.2018", "read as two days", "2024-01-31")),
        ("symbol,member_from\nGE,26.06.18\n", ("found 26.06.18", "year of two digits")),
        ("symbol,member_from\nGE,2018-06-31\nA,2018-06-30\n", ("line 2", "member_from '2018-06-31'")),
        ("symbol,member_from,member_until\nGE,2018-06-26,never\n", ("line 2", "member_until 'never'")),
        (
            "symbol,member_from\n,2018-06-26\nGE,\n",
            ("line 2: the symbol is missing", "line 3: GE has no member_from"),
        ),
        ("symbol,member_from,member_until\nGE,2018-06-26,2018-06-26\n", ("line 2", "not after 2018-06-26")),
        ("symbol,member_from\nGE,2018-06-26\nGE,2019-06-26\n", ("line 3", "belongs already", "by line 2")),
        ("symbol,member_from\nGE,2018-06-26\nGE,2018-06-26\n", ("line 3", "by line 2")),
        ("symbol,member_from\n", ("it has no rows", "members clear")),
        ("", ("cannot be read as CSV",)),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_whole_with_its_lines(
    installed: Installation, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    run(installed.database(), "INSERT INTO universe_members (symbol, member_from) VALUES ('OLD', '2000-01-03')")
    ended = installed.run("universe", "members", "import", listed(tmp_path, text))
    assert ended.code == 1
    assert all(word in ended.said for word in words), ended.said
    assert "Traceback" not in ended.said
    assert installed.ask(STORED) == [("OLD", "2000-01-03", None)]


def test_a_file_that_is_not_there_is_named(installed: Installation, tmp_path: Path) -> None:
    ended = installed.run("universe", "members", "import", str(tmp_path / "nowhere.csv"))
    assert ended.code == 1
    assert "nowhere.csv cannot be read as CSV" in ended.said


def test_help_says_what_the_columns_mean(installed: Installation) -> None:
    told = installed.run("universe", "members", "import", "--help").said
    assert all(word in told for word in ("member_from", "member_until", "a symbol without one was never a member"))
    assert "import" in installed.run("universe", "members", "--help").said
