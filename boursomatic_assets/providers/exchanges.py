"""Exchanges under each source's name: ISO 10383 (MIC), Yahoo, EODHD, Stooq, Bloomberg and Google.

Each market has a Yahoo suffix and a time zone; four markets also have a trading calendar.
"""

from __future__ import annotations

from dataclasses import dataclass

US = "US"
# Exchange of a market without a calendar, such as London.
UNKNOWN_EXCHANGE = "unknown"


@dataclass(frozen=True)
class Market:
    """A stock market: its exchange, Yahoo suffix and IANA time zone.

    `exchange` is an ISO 10383 code, `US`, or `unknown` for a market without a calendar. `suffix` has no dot; it is
    empty for the United States.
    """

    exchange: str
    suffix: str
    zone: str


_NEW_YORK = "America/New_York"
PARIS = Market("XPAR", "PA", "Europe/Paris")
AMSTERDAM = Market("XAMS", "AS", "Europe/Amsterdam")
BRUSSELS = Market("XBRU", "BR", "Europe/Brussels")
AMERICAN = Market(US, "", _NEW_YORK)

# Spellings in an exchange column or before a colon, in capitals.
_NAMED: dict[Market, tuple[str, ...]] = {
    AMERICAN: ("US", "USA", "UNITED STATES", "COMPOSITE", "ARCA", "UA", "UR", "UF", "UP"),
    Market("XNAS", "", _NEW_YORK): (
        "XNAS", "NASDAQ", "NASDAQGS", "NASDAQGM", "NASDAQCM", "NMS", "NGM", "NCM", "NAS", "XNGS", "XNMS", "XNCM",
        "UW", "UQ", "NSDQ",
    ),
    Market("XNYS", "", _NEW_YORK): ("XNYS", "NYSE", "NYQ", "NYS", "UN"),
    Market("XASE", "", _NEW_YORK): ("XASE", "AMEX", "NYSEAMERICAN", "NYSE AMERICAN", "NYSE MKT", "ASE", "NYSEMKT"),
    Market("ARCX", "", _NEW_YORK): ("ARCX", "NYSEARCA", "NYSE ARCA", "PCX"),
    Market("BATS", "", _NEW_YORK): ("BATS", "CBOE", "BTS"),
    PARIS: ("XPAR", "PA", "PAR", "EPA", "PARIS", "EURONEXT PARIS", "FP", "FR", "ENXTPA"),
    AMSTERDAM: ("XAMS", "AS", "AMS", "AMSTERDAM", "EURONEXT AMSTERDAM", "NA", "NL", "ENXTAM"),
    BRUSSELS: ("XBRU", "BR", "BRU", "EBR", "BRUSSELS", "EURONEXT BRUSSELS", "BB", "ENXTBR"),
}  # fmt: skip
# By Yahoo suffix: time zone, then spellings.
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "L": ("Europe/London", "XLON", "LSE", "LON", "LN", "LONDON", "LONDON STOCK EXCHANGE", "UK"),
    "IL": ("Europe/London", "IOB"),
    "IR": ("Europe/Dublin", "XDUB", "ISE", "ID", "IR", "EURONEXT DUBLIN"),
    "LS": ("Europe/Lisbon", "XLIS", "ELI", "LS", "PL", "LISBON", "EURONEXT LISBON"),
    "OL": ("Europe/Oslo", "XOSL", "OSL", "OL", "NO", "OSLO"),
    "DE": ("Europe/Berlin", "XETR", "XETRA", "ETR", "GY", "GER", "DE"),
    "F": ("Europe/Berlin", "XFRA", "FRA", "GF", "FRANKFURT", "F"),
    "MI": ("Europe/Rome", "XMIL", "BIT", "IM", "MIL", "MI", "MTAA"),
    "MC": ("Europe/Madrid", "XMAD", "BME", "SM", "MCE", "MAD"),
    "SW": ("Europe/Zurich", "XSWX", "SWX", "VTX", "SE", "VX", "SW", "EBS"),
    "VI": ("Europe/Vienna", "XWBO", "VIE", "AV", "VI"),
    "ST": ("Europe/Stockholm", "XSTO", "STO", "SS", "ST"),
    "CO": ("Europe/Copenhagen", "XCSE", "CPH", "DC", "CO"),
    "HE": ("Europe/Helsinki", "XHEL", "HEL", "FH", "HE"),
    "WA": ("Europe/Warsaw", "XWAR", "WSE", "PW", "WAR", "WA"),
    "AT": ("Europe/Athens", "XATH", "ATH", "GA"),
    "TO": ("America/Toronto", "XTSE", "TSX", "TSE", "CT", "CN", "TOR", "TO"),
    "V": ("America/Toronto", "XTSX", "TSXV", "CVE", "CV"),
    "SA": ("America/Sao_Paulo", "BVMF", "B3", "BS", "BZ", "SAO", "SA"),
    "MX": ("America/Mexico_City", "XMEX", "BMV", "MM", "MX"),
    "T": ("Asia/Tokyo", "XTKS", "TYO", "JP", "JT", "JPX"),
    "HK": ("Asia/Hong_Kong", "XHKG", "HKG", "HKEX", "HK"),
    "SS": ("Asia/Shanghai", "XSHG", "SHA", "SHG", "CG", "SSE"),
    "SZ": ("Asia/Shanghai", "XSHE", "SHE", "SZSE", "CS"),
    "NS": ("Asia/Kolkata", "XNSE", "NSE", "NSI", "IS"),
    "BO": ("Asia/Kolkata", "XBOM", "BSE", "BOM", "IB"),
    "KS": ("Asia/Seoul", "XKRX", "KRX", "KO", "KOSPI", "KS"),
    "AX": ("Australia/Sydney", "XASX", "ASX", "AT", "AU", "AX"),
}  # fmt: skip

_MARKET_OF_NAME: dict[str, Market] = {name: market for market, names in _NAMED.items() for name in names}
_MARKET_OF_SUFFIX: dict[str, Market] = {
    # Suffixes of Yahoo, Stooq (fr, nl) and EODHD (US, LSE, XETRA), and MICs, if no source uses them otherwise.
    **dict.fromkeys(("PA", "FR", "FP", "XPAR"), PARIS),
    **dict.fromkeys(("AS", "NL", "XAMS"), AMSTERDAM),
    **dict.fromkeys(("BR", "XBRU"), BRUSSELS),
    **dict.fromkeys(("US", "XNYS", "XNAS"), AMERICAN),
}
for _suffix, (_zone, *_names) in _ELSEWHERE.items():
    _market = Market(UNKNOWN_EXCHANGE, _suffix, _zone)
    _MARKET_OF_SUFFIX.setdefault(_suffix, _market)
    for _name in _names:
        _MARKET_OF_NAME.setdefault(_name, _market)
for _name, _suffix in {"LSE": "L", "XLON": "L", "XETRA": "DE", "XETR": "DE"}.items():
    _MARKET_OF_SUFFIX[_name] = _MARKET_OF_SUFFIX[_suffix]


def market_named(name: str) -> Market | None:
    """Market for any spelling of an exchange; None if unknown.

    >>> market_named("Euronext Paris").suffix, market_named("NMS").exchange, market_named("XLON").exchange
    ('PA', 'XNAS', 'unknown')
    """
    return _MARKET_OF_NAME.get(name.strip().upper())


def market_of_suffix(suffix: str) -> Market | None:
    """Market for a symbol's suffix, in capitals and without the dot; None if unknown."""
    return _MARKET_OF_SUFFIX.get(suffix)
