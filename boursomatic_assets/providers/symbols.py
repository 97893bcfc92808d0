"""One symbol under each source's name, and back.

The universe writes a US share class with a dot (`BRK.B`) and a Euronext listing with Yahoo's suffix (`MC.PA`).
Yahoo writes `BRK-B` and `MC.PA`, Stooq `brk-b.us` and `mc.fr`.
"""

from __future__ import annotations

US = "US"
EXCHANGE_OF_SUFFIX = {"PA": "XPAR", "AS": "XAMS", "BR": "XBRU"}

# One letter that is a market of Yahoo's and no share class: Frankfurt, London, Tokyo, Toronto's venture exchange.
_MARKET_LETTERS = frozenset("FLTV")
_STOOQ_COUNTRY = {US: "us", "XPAR": "fr", "XAMS": "nl", "XBRU": "be"}
_SUFFIX_OF_COUNTRY = {_STOOQ_COUNTRY[exchange]: suffix for suffix, exchange in EXCHANGE_OF_SUFFIX.items()}


def exchange_of(symbol: str) -> str | None:
    """Tell a symbol's exchange from its suffix.

    Returns
    -------
    str or None
        ISO 10383 code of a Euronext market; `US` without a suffix or with a share class (`BRK.B`); None for the
        suffix of any other market (`VOD.L`).
    """
    _, dot, suffix = symbol.rpartition(".")
    if not dot or _is_class(suffix):
        return US
    return EXCHANGE_OF_SUFFIX.get(suffix)


def to_yahoo(symbol: str) -> str:
    """Name Yahoo uses; a symbol of a market that is not known here is left as it is."""
    return symbol.replace(".", "-") if exchange_of(symbol) == US else symbol


def from_yahoo(name: str) -> str:
    """Symbol behind a name of Yahoo's."""
    return _with_class_dot(name) if "." not in name else name


def to_stooq(symbol: str) -> str | None:
    """Name Stooq uses; None for a market that is not known here."""
    exchange = exchange_of(symbol)
    if exchange is None:
        return None
    root = symbol.replace(".", "-") if exchange == US else symbol.rpartition(".")[0]
    return f"{root}.{_STOOQ_COUNTRY[exchange]}".lower()


def from_stooq(name: str) -> str | None:
    """Symbol behind a name of Stooq's; None for a country that is not known here."""
    root, _, country = name.rpartition(".")
    if country == _STOOQ_COUNTRY[US]:
        return _with_class_dot(root.upper())
    suffix = _SUFFIX_OF_COUNTRY.get(country)
    return f"{root.upper()}.{suffix}" if suffix else None


def _with_class_dot(name: str) -> str:
    root, dash, letter = name.rpartition("-")
    return f"{root}.{letter}" if dash and _is_class(letter) else name


def _is_class(suffix: str) -> bool:
    return len(suffix) == 1 and suffix.isalpha() and suffix not in _MARKET_LETTERS
