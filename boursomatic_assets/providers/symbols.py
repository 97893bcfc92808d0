"""Conversion of symbols between the universe's spelling and that of each source.

The universe writes a US share class with a dot (`BRK.B`) and a Euronext listing with Yahoo's suffix (`MC.PA`).
Yahoo writes `BRK-B` and `MC.PA`, Stooq `brk-b.us` and `mc.fr`, EODHD `BRK-B.US` and `MC.PA`, Tiingo `BRK-B`,
Bloomberg `BRK/B US` and `MC FP`, Google `EPA:MC`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from boursomatic_assets.providers.exchanges import (
    AMERICAN,
    AMSTERDAM,
    BRUSSELS,
    PARIS,
    UNKNOWN_EXCHANGE,
    US,
    Market,
    market_named,
    market_of_suffix,
)

__all__ = [
    "EXCHANGE_OF_SUFFIX", "US", "Listed", "exchange_of", "from_stooq", "from_yahoo", "is_isin", "listed", "spelled",
    "to_eodhd", "to_stooq", "to_tiingo", "to_yahoo",
]  # fmt: skip

EXCHANGE_OF_SUFFIX = {"PA": "XPAR", "AS": "XAMS", "BR": "XBRU"}

# Yahoo's one-letter markets, which are no share classes: Frankfurt, London, Tokyo, TSX Venture.
_MARKET_LETTERS = frozenset("FLTV")
_STOOQ_COUNTRY = {US: "us", "XPAR": "fr", "XAMS": "nl", "XBRU": "be"}
_SUFFIX_OF_COUNTRY = {_STOOQ_COUNTRY[exchange]: suffix for suffix, exchange in EXCHANGE_OF_SUFFIX.items()}
# Stooq's country suffixes that mean another market elsewhere: .BE is Berlin at Yahoo.
_STOOQ_MARKETS = {"BE": BRUSSELS, "UK": market_named("LSE"), "JP": market_named("TYO")}
_MARKET_OF_INDEX = {
    **dict.fromkeys(("GSPC", "DJI", "IXIC", "NDX", "RUT", "RUA", "VIX", "SPX", "NYA", "OEX", "SP500TR"), AMERICAN),
    "FCHI": PARIS,
    "AEX": AMSTERDAM,
    "BFX": BRUSSELS,
}
_TICKER = re.compile(r"[A-Z0-9]+([.-][A-Z0-9]+)*")
_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
# Yahoo's symbols of currency pairs, cryptocurrencies and futures.
_NO_STOCK = re.compile(r".*(=[XF]|-(USD|EUR|GBP|USDT))")
_CODE_AND_COUNTRY = 2
# Reuters' suffixes of Nasdaq and New York, after a share class in a small letter: BRKb.N.
_REUTERS = re.compile(r"([A-Z]+)([a-z]?)\.(?:OQ?|N)")
# Yahoo's spelling of a US share class.
_HYPHENATED_CLASS = re.compile(r"[A-Z]{1,5}-[A-Z]")
# What programs write for a missing symbol; NA and NAN are tickers.
_MISSING = ("N/A", "#N/A", "<NA>", "#REF!")


@dataclass(frozen=True)
class Listed:
    """A symbol in the universe's spelling, and its market; the symbol of a blank is None.

    `exchange` is an ISO 10383 code, `US` or `unknown`; `zone` is its IANA time zone, None if unknown. `problem`
    says why symbol and exchange contradict each other.
    """

    symbol: str | None
    exchange: str = UNKNOWN_EXCHANGE
    zone: str | None = None
    problem: str | None = None


@lru_cache(maxsize=65536)
def listed(raw: str | None, exchange: str | None = None, *, stooq: bool = False) -> Listed:
    """Recognise a symbol in any source's spelling, such as `aapl`, `AAPL.US`, `MC FP`, `EPA:MC` or `vod.l`.

    `exchange` is the text of an exchange column, in any source's spelling; it is trusted. `stooq` says that the
    file is Stooq's, whose `.be` is Brussels. An unrecognised exchange, an ISIN without an exchange, and a text that
    is not a ticker are `unknown`, never the United States.

    >>> [listed(name).symbol for name in ("aapl", "AAPL.US", "MC FP Equity", "EPA:MC", "vod.l", "BRK/B US")]
    ['AAPL', 'AAPL', 'MC.PA', 'MC.PA', 'VOD.L', 'BRK.B']
    >>> listed("MC", "XPAR").symbol, listed("FR0000121014").exchange
    ('MC.PA', 'unknown')
    """
    place = (exchange or "").strip()
    text = _plain(raw or "")
    if reuters := _REUTERS.fullmatch(text):
        text = ".".join(filter(None, (reuters[1], reuters[2], US)))
    text = text.upper()
    if text in _MISSING or not any(map(str.isalnum, text)):
        return Listed(None)
    if place.lower() == UNKNOWN_EXCHANGE:
        return Listed(text)
    named = market_named(place)
    code, own = _code_and_market(text, stooq=stooq)
    if named and own and named.suffix != own.suffix:
        return Listed(text, problem=f"symbol {text} and exchange {place} disagree")
    if market := (named or own):
        return _placed(code, market)
    if place and not _ISIN.fullmatch(code):
        # Unknown exchanges may use one code for different stocks.
        return Listed(f"{code}.{place.upper()}" if place.isalnum() else code)
    return _placed(code, AMERICAN) if _is_american(code) else Listed(code)


def _plain(text: str) -> str:
    """Text without invisible characters and surrounding spaces; wide letters become ordinary ones."""
    if text.isascii():
        return text.strip(" \t")
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", visible).strip(" \t")


def spelled(text: str) -> str:
    """Symbol of a list in the universe's spelling; an unrecognised text stays as it is, in capitals."""
    return listed(text).symbol or ""


def _is_american(code: str) -> bool:
    """Whether a code without an exchange is a US ticker; numbers and ISINs are not."""
    is_ticker = _TICKER.fullmatch(code) and not code.isdigit() and not _ISIN.fullmatch(code)
    return bool(is_ticker and not _NO_STOCK.fullmatch(code) and exchange_of(code) == US)


def _placed(code: str, market: Market) -> Listed:
    """A code with its market's suffix; indices and ISINs have no suffix."""
    if not market.suffix and _HYPHENATED_CLASS.fullmatch(code):
        code = _with_class_dot(code)
    is_bare = not market.suffix or code.startswith("^") or _ISIN.fullmatch(code)
    return Listed(code if is_bare else f"{code}.{market.suffix}", market.exchange, market.zone)


def _code_and_market(text: str, *, stooq: bool) -> tuple[str, Market | None]:
    """Split a symbol into code and market; the whole text and None if it names no market."""
    if text.startswith("^"):
        return text, _MARKET_OF_INDEX.get(text[1:])
    before, colon, after = text.partition(":")
    if colon:
        if market := market_named(before):
            return _dotted(after.strip()), market
        return (_dotted(before.strip()), market) if (market := market_named(after)) else (text, None)
    words = [word for word in text.split() if word not in {"EQUITY", "INDEX"}]
    if len(words) == _CODE_AND_COUNTRY and len(words[1]) == _CODE_AND_COUNTRY and (m := market_named(words[1])):
        return _dotted(words[0]), m
    text = _dotted(text)
    root, _, suffix = text.rpartition(".")
    if root and not _is_class(suffix):
        market = (_STOOQ_MARKETS.get(suffix) if stooq else None) or market_of_suffix(suffix)
        if market:
            return (_with_class_dot(root) if market is AMERICAN else root), market
    return text, None


def _dotted(code: str) -> str:
    """Code with the universe's dot before its share class: `BRK/B` becomes `BRK.B`."""
    root, slash, letter = code.rpartition("/")
    return f"{root}.{letter}" if slash and root.isalnum() and len(letter) == 1 else code


def is_isin(text: str) -> bool:
    """Whether a text is an ISIN (ISO 6166) with a valid check digit."""
    if not _ISIN.fullmatch(text):
        return False
    digits = "".join(str(int(letter, 36)) for letter in text)
    doubled = [int(digit) * (1 + (place % 2 == 0)) for place, digit in enumerate(reversed(digits), start=1)]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def exchange_of(symbol: str) -> str | None:
    """Exchange of a symbol, from its suffix: an ISO 10383 code of Euronext, `US`, or None.

    `US` stands for no suffix or a share class (`BRK.B`). None stands for the suffix of any other market (`VOD.L`),
    an unsupported index, and an ISIN.
    """
    if symbol.startswith("^"):
        market = _MARKET_OF_INDEX.get(symbol[1:])
        return market.exchange if market else None
    if is_isin(symbol):
        return None
    _, dot, suffix = symbol.rpartition(".")
    if not dot or _is_class(suffix):
        return US
    return EXCHANGE_OF_SUFFIX.get(suffix)


def to_yahoo(symbol: str) -> str:
    """Yahoo's name of a symbol; unchanged for an unsupported market."""
    return symbol.replace(".", "-") if exchange_of(symbol) == US else symbol


def from_yahoo(name: str) -> str:
    """Symbol for a Yahoo name."""
    return _with_class_dot(name) if "." not in name else name


def to_stooq(symbol: str) -> str | None:
    """Stooq's name of a symbol; None for an unsupported market."""
    exchange = exchange_of(symbol)
    if exchange is None:
        return None
    root = symbol.replace(".", "-") if exchange == US else symbol.rpartition(".")[0]
    return f"{root}.{_STOOQ_COUNTRY[exchange]}".lower()


def to_eodhd(symbol: str) -> str | None:
    """EODHD's name of a symbol; None for an unsupported market. EODHD lists indices under a separate exchange."""
    exchange = exchange_of(symbol)
    if exchange is None:
        return None
    if symbol.startswith("^"):
        return f"{symbol[1:]}.INDX"
    return f"{symbol.replace('.', '-')}.US" if exchange == US else symbol


def to_tiingo(symbol: str) -> str | None:
    """Tiingo's name of a symbol; None for an index, and outside the United States."""
    return symbol.replace(".", "-") if exchange_of(symbol) == US and not symbol.startswith("^") else None


def from_stooq(name: str) -> str | None:
    """Symbol for a Stooq name; None for an unsupported country."""
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
