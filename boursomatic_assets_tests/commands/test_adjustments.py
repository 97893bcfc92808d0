from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.support.installation import Installation, new_installation
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = [str(session) for session in weekdays(40)]
SPLIT = SESSIONS[30]


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    with new_installation() as installed:
        ended = installed.run("materialize", "--select", "instruments,price_bars")
        assert ended.code == 0, ended.said
        yield installed


def test_an_empty_list_says_so(installed: Installation) -> None:
    ended = installed.run("adjustments", "list")
    assert (ended.code, ended.said) == (0, "No adjustments, and no unexplained jump.")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """NVDA with its ten for one left in, and a symbol that reads like markup with a five for one."""
    before = {"NVDA": 1000.0, "[b]X[/b]": 50.0}
    after = {"NVDA": 101.0, "[b]X[/b]": 10.1}
    lines = [
        f"{symbol},{session},{close},{close},{close},{close},1000"
        for symbol in before
        for session in SESSIONS
        for close in [before[symbol] if session < SPLIT else after[symbol]]
    ]
    prices = tmp_path_factory.mktemp("prices") / "prices.csv"
    prices.write_text("\n".join(["symbol,date,open,high,low,close,volume", *lines]) + "\n")
    with new_installation() as installed:
        ended = installed.run(
            "materialize", "--provider", "files", "--path", str(prices), "--select", "instruments,price_bars"
        )
        assert ended.code == 0, ended.said
        assert f"NVDA {SPLIT}, a jump near 0.1 (to 0.101 of the close before)" in ended.said
        yield installed


def test_an_entry_is_added_listed_replaced_and_removed(split: Installation) -> None:
    added = split.run("adjustments", "add", "NVDA", SPLIT, "0.1", "--note", "ten [i]for one")
    assert added.code == 0, added.said
    assert f"NVDA {SPLIT}: bars before it are multiplied by 0.1." in added.said
    assert "boursomatic materialize --select features+" in added.said
    assert split.ask("SELECT symbol, session::text, ratio, note FROM adjustments") == [
        ("NVDA", SPLIT, 0.1, "ten [i]for one")
    ]
    listed = split.run("adjustments", "list").said
    assert all(word in listed for word in ("NVDA", SPLIT, "0.1", "ten [i]for one"))
    real = split.run("adjustments", "add", "NVDA", SPLIT, "1")
    assert f"NVDA {SPLIT}: its move is accepted as real." in real.said
    assert split.ask("SELECT ratio, note FROM adjustments") == [(1.0, None)]
    removed = split.run("adjustments", "remove", "NVDA", SPLIT)
    assert removed.code == 0, removed.said
    assert split.ask("SELECT count(*) FROM adjustments") == [(0,)]


def test_a_symbol_that_reads_like_markup_is_written_as_it_is(split: Installation) -> None:
    listed = split.run("adjustments", "list")
    assert listed.code == 0, listed.errors
    # 10.1 / 50 = 0.202
    assert f"[B]X[/B] {SPLIT} quarantined: a jump near 0.2 0.202" in listed.said
    gone = split.run("adjustments", "remove", "[B]X[/B]", SPLIT)
    assert f"There is no adjustment of [B]X[/B] on {SPLIT}" in gone.said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # As Yahoo writes a split: 101 / 1000 = 0.101 would become 0.0101.
        (("NVDA", SPLIT, "10"), ("still go to 0.0101", f"adjustments add NVDA {SPLIT} 0.1")),
        (("NVDA", SPLIT, "0.2"), ("0.2 does not close a jump", "still go to 0.505")),
        (("NVDA", SESSIONS[10], "0.1"), ("does not close a jump", f"NVDA jumps on {SPLIT}, to 0.101")),
        (("NVDA", SESSIONS[10], "1"), ("no jump of NVDA", f"NVDA jumps on {SPLIT}, to 0.101")),
        (("NVDA", SESSIONS[0], "0.1"), ("its first bar",)),
        (("NVDA", "2018-01-06", "0.1"), ("no bar on 2018-01-06",)),
    ],
)
def test_an_entry_that_closes_no_jump_on_that_very_session_is_refused(
    split: Installation, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    ended = split.run("adjustments", "add", *arguments)
    assert ended.code == 1, ended.said
    assert all(word in ended.said for word in words), ended.said
    assert split.ask("SELECT count(*) FROM adjustments") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "NOPE", "2005-02-28", "0.5"), 1, ("'NOPE'", "boursomatic")),
        # The sample has its splits out of its prices.
        (("add", "AAPL", "2005-02-28", "0.5"), 1, ("does not close a jump", "no jump that waits")),
        (("add", "AAPL", "2005-02-28", "0"), 1, ("above 0", "0.5 for a two-for-one split")),
        (("add", "AAPL", "2005-02-28", "inf"), 1, ("above 0",)),
        (("add", "AAPL", "28/02/2005", "0.5"), 2, ("28/02/2005", "%Y-%m-%d")),
        (("add", "AAPL", "2005-02-28", "half"), 2, ("ratio", "valid number")),
        (("remove", "AAPL", "2005-02-28"), 1, ("There is no adjustment of AAPL on 2005-02-28",)),
    ],
)
def test_what_cannot_be_entered_is_refused_with_one_message(
    installed: Installation, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    ended = installed.run("adjustments", *arguments)
    assert ended.code == code, ended.said
    assert all(word in ended.said for word in words), ended.said
    assert "Traceback" not in ended.said
    assert installed.ask("SELECT count(*) FROM adjustments") == [(0,)]
