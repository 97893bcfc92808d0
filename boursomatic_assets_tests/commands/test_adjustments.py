from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.assets.installation import Installation, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    with new_installation() as installed:
        ended = installed.run("materialize", "--select", "instruments,price_bars")
        assert ended.code == 0, ended.said
        yield installed


def test_an_empty_list_says_so(installed: Installation) -> None:
    ended = installed.run("adjustments", "list")
    assert (ended.code, ended.said) == (0, "No adjustments, and no jump that waits for one.")


def test_an_entry_is_added_listed_replaced_and_removed(installed: Installation) -> None:
    added = installed.run("adjustments", "add", "AAPL", "2005-02-28", "0.5", "--note", "two for one")
    assert added.code == 0, added.said
    assert "AAPL: bars before 2005-02-28 are multiplied by 0.5." in added.said
    assert "boursomatic materialize --select features+" in added.said
    assert installed.ask("SELECT symbol, session::text, ratio, note FROM adjustments") == [
        ("AAPL", "2005-02-28", 0.5, "two for one")
    ]
    listed = installed.run("adjustments", "list").said
    assert all(word in listed for word in ("AAPL", "2005-02-28", "0.5", "two for one"))
    installed.run("adjustments", "add", "AAPL", "2005-02-28", "0.25")
    assert installed.ask("SELECT ratio, note FROM adjustments") == [(0.25, None)]
    removed = installed.run("adjustments", "remove", "AAPL", "2005-02-28")
    assert removed.code == 0, removed.said
    assert installed.ask("SELECT count(*) FROM adjustments") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "NOPE", "2005-02-28", "0.5"), 1, ("'NOPE'", "boursomatic")),
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
