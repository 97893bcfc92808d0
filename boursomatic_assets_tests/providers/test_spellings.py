"""Symbols and exchanges in the spellings of many sources: one symbol each, and never silently the United States."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.providers import exchanges
from boursomatic_assets.providers.exchanges import market_named
from boursomatic_assets.providers.symbols import exchange_of, is_isin, listed

SPELLINGS = {
    ("AAPL", "US"): (
        "AAPL",
        "aapl",
        " Aapl ",
        "AAPL.US",
        "aapl.us",
        "AAPL US",
        "AAPL US Equity",
        "US:AAPL",
        "AAPL.O",
        "AAPL.OQ",
        "AAPL\u200b",
        "\uff21\uff21\uff30\uff2c",
    ),
    ("AAPL", "XNAS"): ("NASDAQ:AAPL", "AAPL UW", "AAPL UQ Equity"),
    ("BRK.B", "US"): ("BRK.B", "brk.b", "brk-b.us", "BRK/B US", "BRK/B", "BRK-B", "brk-b", "BRKb.N"),
    ("MC.PA", "XPAR"): (
        "MC.PA",
        "mc.pa",
        "MC FP",
        "MC FP Equity",
        "EPA:MC",
        "XPAR:MC",
        "mc.fr",
        "MC:PA",
        "MC.XPAR",
    ),
    ("ASML.AS", "XAMS"): ("ASML.AS", "ASML NA", "AMS:ASML", "asml.nl"),
    ("UCB.BR", "XBRU"): ("UCB.BR", "UCB BB", "EBR:UCB"),
    ("VOD.L", "unknown"): ("VOD.L", "vod.l", "VOD LN", "LON:VOD", "VOD.LSE"),
    ("^GSPC", "US"): ("^GSPC", "^gspc"),
    ("^FCHI", "XPAR"): ("^FCHI",),
}
NEVER_US = (
    "FR0000121014", "US0378331005", "US0378331006", "Air Liquide SA", "0700", "7203", "EURUSD=X", "BTC-USD",
    "^N225", "SAP.DE", "EURONEXT:MC", "FOO:BAR", "X.PA.", "MC QQ",
)  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "spelled"), [(key, text) for key, texts in SPELLINGS.items() for text in texts]
)
def test_each_spelling_is_the_same_instrument(expected: tuple[str, str], spelled: str) -> None:
    found = listed(spelled)
    assert (found.symbol, found.exchange) == expected
    assert found.problem is None


@pytest.mark.parametrize("text", NEVER_US)
def test_what_is_not_recognised_is_unknown(text: str) -> None:
    assert listed(text).exchange == "unknown"


@pytest.mark.parametrize(
    ("symbol", "exchange", "expected"),
    [
        ("MC", "XPAR", ("MC.PA", "XPAR")),
        ("MC", "Euronext Paris", ("MC.PA", "XPAR")),
        ("MC.PA", "PA", ("MC.PA", "XPAR")),
        ("AAPL", "NMS", ("AAPL", "XNAS")),
        ("BRK.B", "NYQ", ("BRK.B", "XNYS")),
        ("VOD", "LSE", ("VOD.L", "unknown")),
        ("ABC", "Nowhere", ("ABC.NOWHERE", "unknown")),
        ("ABC", "unknown", ("ABC", "unknown")),
        ("ABC", "", ("ABC", "US")),
        ("FR0000121014", "XPAR", ("FR0000121014", "XPAR")),
        ("FR0000121014", "Nowhere", ("FR0000121014", "unknown")),
    ],
)
def test_an_exchange_that_is_given_is_believed(symbol: str, exchange: str, expected: tuple[str, str]) -> None:
    found = listed(symbol, exchange)
    assert (found.symbol, found.exchange) == expected


def test_a_symbol_and_an_exchange_that_disagree_are_told() -> None:
    assert listed("MC.PA", "XNYS").problem == "symbol MC.PA and exchange XNYS disagree"
    assert listed("AAPL.US", "NMS").problem is None


@pytest.mark.parametrize("blank", [None, "", "  ", "\u00a0", "\u200b", "---", "N/A", "#N/A"])
def test_a_blank_is_no_symbol(blank: str | None) -> None:
    assert listed(blank).symbol is None


def test_stooqs_belgium_is_yahoos_berlin() -> None:
    assert listed("ucb.be", stooq=True).symbol == "UCB.BR"
    assert listed("SAP.BE").exchange == "unknown"


def test_the_check_digit_of_an_isin() -> None:
    # Apple's and LVMH's, as they are printed; with another last digit neither is one.
    assert is_isin("US0378331005")
    assert is_isin("FR0000121014")
    assert not any(is_isin(f"US037833100{digit}") for digit in "012346789")
    assert not is_isin("US03783310")
    assert exchange_of("FR0000121014") is None


def test_every_market_has_a_clock() -> None:
    markets = {market_named(name) for name in ("US", "XPAR", "XAMS", "XBRU", *exchanges._MARKET_OF_NAME)}  # noqa: SLF001
    assert all(market and ZoneInfo(market.zone) for market in markets)


@given(st.text(max_size=12), st.one_of(st.none(), st.text(max_size=6)))
def test_any_text_is_listed_somewhere_and_its_symbol_is_the_same_symbol(text: str, exchange: str | None) -> None:
    found = listed(text, exchange)
    assert found.exchange
    if found.symbol and found.exchange != "unknown" and found.symbol.isascii():
        assert listed(found.symbol, found.exchange).symbol == found.symbol
