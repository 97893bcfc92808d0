from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.providers.symbols import (
    exchange_of,
    from_stooq,
    from_yahoo,
    to_eodhd,
    to_stooq,
    to_tiingo,
    to_yahoo,
)

# Symbol of the universe, its exchange, Yahoo's name, Stooq's name.
NAMES = [
    ("AAPL", "US", "AAPL", "aapl.us"),
    ("F", "US", "F", "f.us"),
    ("BRK.B", "US", "BRK-B", "brk-b.us"),
    ("BF.A", "US", "BF-A", "bf-a.us"),
    ("MC.PA", "XPAR", "MC.PA", "mc.fr"),
    ("ASML.AS", "XAMS", "ASML.AS", "asml.nl"),
    ("UCB.BR", "XBRU", "UCB.BR", "ucb.be"),
]
EXCHANGES = [name[:2] for name in NAMES]

roots = st.from_regex(r"[A-Z][A-Z0-9]{0,5}", fullmatch=True)
classes = st.sampled_from(["", *(f".{letter}" for letter in "ABCDEGHIJKMNOPQRSUWXYZ")])
symbols = st.one_of(st.tuples(roots, classes), st.tuples(roots, st.sampled_from([".PA", ".AS", ".BR"]))).map(
    "".join
)


@pytest.mark.parametrize(("symbol", "exchange"), EXCHANGES)
def test_the_suffix_tells_the_exchange(symbol: str, exchange: str) -> None:
    assert exchange_of(symbol) == exchange


@pytest.mark.parametrize("symbol", ["VOD.L", "SAP.DE", "SAP.F", "7203.T", "ABC.V", "NESN.SW"])
def test_the_suffix_of_another_market_is_no_us_share_class(symbol: str) -> None:
    assert exchange_of(symbol) is None
    assert to_stooq(symbol) is None
    assert to_yahoo(symbol) == symbol
    assert from_yahoo(symbol) == symbol


@pytest.mark.parametrize(("symbol", "yahoo", "stooq"), [(name[0], *name[2:]) for name in NAMES])
def test_each_source_has_its_own_name_for_a_symbol(symbol: str, yahoo: str, stooq: str) -> None:
    assert (to_yahoo(symbol), to_stooq(symbol)) == (yahoo, stooq)
    assert (from_yahoo(yahoo), from_stooq(stooq)) == (symbol, symbol)


@pytest.mark.parametrize(
    ("symbol", "eodhd", "tiingo"),
    [
        ("AAPL", "AAPL.US", "AAPL"),
        ("BRK.B", "BRK-B.US", "BRK-B"),
        ("MC.PA", "MC.PA", None),
        ("^GSPC", "GSPC.INDX", None),
        ("VOD.L", None, None),
    ],
)
def test_vendors_have_their_own_names_where_they_have_the_symbol(
    symbol: str, eodhd: str | None, tiingo: str | None
) -> None:
    assert (to_eodhd(symbol), to_tiingo(symbol)) == (eodhd, tiingo)


def test_a_country_that_is_not_known_has_no_symbol() -> None:
    assert from_stooq("vod.uk") is None
    assert from_stooq("eurusd") is None


@given(symbols)
def test_a_symbol_survives_the_way_to_each_source_and_back(symbol: str) -> None:
    assert from_yahoo(to_yahoo(symbol)) == symbol
    assert from_stooq(to_stooq(symbol) or "") == symbol


@given(st.lists(symbols, unique=True, min_size=2))
def test_two_symbols_never_share_a_name(several: list[str]) -> None:
    assert len({to_yahoo(symbol) for symbol in several}) == len(several)
    assert len({to_stooq(symbol) for symbol in several}) == len(several)
