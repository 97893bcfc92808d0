"""Recognition of columns by their names, in exports of many tools and languages."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Names in the form of `plain`; the first alias that occurs wins.
ALIASES: dict[str, tuple[str, ...]] = {
    "symbol": (
        "symbol", "ticker", "tickersymbol", "stocksymbol", "code", "ric", "mnemonic", "instrument", "symbole",
        "valeur", "isin", "name",
    ),
    "session": (
        "session", "date", "day", "tradedate", "tradingdate", "tradingday", "pricedate", "quotedate", "datum",
        "jour", "fecha", "datetime", "timestamp", "ts", "time",
    ),
    "open": ("open", "openprice", "openingprice", "priceopen", "ouv", "ouverture", "eroffnung", "eroeffnung",
             "erster", "apertura", "openusd", "openeur", "pxopen"),
    "high": ("high", "highprice", "dayhigh", "pricehigh", "haut", "plushaut", "hoch", "tageshoch", "alto",
             "pxhigh"),
    "low": ("low", "lowprice", "daylow", "pricelow", "bas", "plusbas", "tief", "tagestief", "bajo", "pxlow"),
    "close": (
        "close", "closeprice", "closingprice", "priceclose", "closelast", "clot", "cloture", "schluss",
        "schlusskurs", "cierre", "last", "lastprice", "dernier", "price", "pxlast",
        # Copied from Yahoo's page, with the explanation of the column.
        "closeclosepriceadjustedforsplits",
    ),
    "adj_close": (
        "adjclose", "adjustedclose", "closeadjusted", "closeadj", "adjcloseprice", "adj",
        "adjcloseadjustedclosepriceadjustedforsplitsanddividendandorcapitalgaindistributions",
    ),
    "volume": (
        "volume", "vol", "volumes", "sharevolume", "totalvolume", "tradedvolume", "numberofshares", "volumen",
        "stuck", "stueck", "sharestraded", "pxvolume",
    ),
    "adj_volume": ("adjvolume", "adjustedvolume", "volumeadjusted", "volumeadj"),
    "exchange": ("exchange", "exchangeshortname", "exchangecode", "exchangename", "exchangemic", "mic", "micode",
                 "exch", "mnemoexchange", "stockexchange"),
    "period": ("per", "period", "interval", "timeframe"),
}  # fmt: skip
# Any other name of an adjusted close is the word, what it is adjusted for, and a name of the close.
_ADJUSTED = re.compile(
    r"(.*?)(?:split|dividends?|div|and|fully|back)*(?:adjusted|adj|ajustee?|ajustado|bereinigte?r?)"
    r"(?:for)?(?:splits?|dividends?|div|and)*(.*)"
)
_NAMES_OF_A_CLOSE = {*ALIASES["close"], "", "cours", "kurs", "prix", "prc", "px", "courscloture"}
_LETTERS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_INDEX_NAMES = ("", "unnamed0", "index", "indexlevel0", "rownames")
_PRICES = ("open", "high", "low", "close")
ENOUGH = 3


def plain(name: str) -> str:
    """Name without case, accents, a leading number, and characters other than letters and digits.

    >>> plain("5. Adjusted_Close"), plain("<DATE>"), plain("Clôture"), plain("Close/Last")
    ('adjustedclose', 'date', 'cloture', 'closelast')
    """
    unaccented = unicodedata.normalize("NFKD", re.sub(r"^\s*\d+\.\s*(?=\D)", "", name))
    return re.sub(r"[^a-z0-9]", "", unaccented.lower())


def match_columns(columns: Sequence[str]) -> dict[str, int]:
    """Positions of the recognised columns in a file's header, by our names.

    Single letters count only as a full set of o, h, l, c. If both `T` and `t` occur, `T` is the ticker and `t` the
    time. A column without a name is the session if no other column is.
    """
    places: dict[str, int] = {}
    for place, name in reversed(list(enumerate(columns))):
        places[plain(name)] = place
    found = {
        name: next(places[alias] for alias in aliases if alias in places)
        for name, aliases in ALIASES.items()
        if any(alias in places for alias in aliases)
    }
    if not any(name in found for name in _PRICES) and all(_LETTERS[name] in places for name in _PRICES):
        found |= {
            name: places[letter] for name, letter in _LETTERS.items() if letter in places and name not in found
        }
        found |= {name: place for name, place in _letters_beside(columns).items() if name not in found}
    if "adj_close" not in found and "close" in found:
        adjusted = next((place for name, place in places.items() if _is_adjusted_close(name)), None)
        found |= {} if adjusted is None else {"adj_close": adjusted}
    # In a table with prices, an unnamed index column is the session.
    if "session" not in found and sum(name in found for name in (*_PRICES, "volume")) >= ENOUGH:
        unnamed = next((places[name] for name in _INDEX_NAMES if name in places), None)
        if unnamed is not None:
            found["session"] = unnamed
    return found


def _is_adjusted_close(name: str) -> bool:
    adjusted = _ADJUSTED.fullmatch(name)
    return bool(adjusted) and adjusted[1] + adjusted[2] in _NAMES_OF_A_CLOSE  # type: ignore[index]


def _letters_beside(columns: Sequence[str]) -> dict[str, int]:
    letters = {name.strip(): place for place, name in reversed(list(enumerate(columns))) if len(name.strip()) == 1}
    found = {}
    if "T" in letters and "t" in letters:
        found = {"symbol": letters["T"], "session": letters["t"]}
    elif time := [letter for letter in ("t", "T", "d", "D") if letter in letters]:
        found = {"session": letters[time[0]]}
    if symbol := [letter for letter in ("s", "S") if letter in letters]:
        found.setdefault("symbol", letters[symbol[0]])
    return found


def is_another_column(name: str, text: str) -> bool:
    """Whether a text is the header of another column than `name`."""
    word = plain(text)
    return any(word in aliases for other, aliases in ALIASES.items() if other != name) and (
        word not in ALIASES[name]
    )


def is_only_a_name(columns: Sequence[str], place: int) -> bool:
    """Whether the symbol column is called `name`; the file's own name may then be the better symbol."""
    return plain(columns[place]) == "name"


def likeness(columns: Sequence[str]) -> int:
    """Number of price-table columns in a line, taken as a header; 0 below three, which may be chance."""
    found = match_columns(columns)
    known = sum(name in found for name in (*_PRICES, "volume", "session", "symbol"))
    return known if known >= ENOUGH else 0
