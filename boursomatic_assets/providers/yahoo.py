"""Daily bars from Yahoo Finance, through the client `yfinance`."""

from __future__ import annotations

import logging
import warnings
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import PRICE_COLUMNS
from boursomatic_assets.core.market.calendars import FIRST_YEAR, calendar_of
from boursomatic_assets.errors import DelistedError, NoBarsError, ProviderError, SourceFailedError
from boursomatic_assets.providers.fetching import BarsRefusedError, FetchedProvider, require_installed, within
from boursomatic_assets.providers.patience import Pace, PassingFailureError
from boursomatic_assets.providers.symbols import to_yahoo

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from boursomatic_assets.providers.source import Wish
    from boursomatic_assets.providers.yahoo_session import YahooSession
    from boursomatic_assets.settings import Settings

REQUESTS_PER_SECOND = 4.0
# A symbol without a trade for longer than this is no longer traded; trading halts are shorter.
LONG_SILENCE = timedelta(days=30)

_ZONE_OF_CALENDAR = {
    "XNYS": "America/New_York",
    "XPAR": "Europe/Paris",
    "XAMS": "Europe/Amsterdam",
    "XBRU": "Europe/Brussels",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def yahoo_provider(settings: Settings) -> FetchedProvider:
    """Yahoo, and Stooq for what Yahoo does not deliver, for the universe that the settings name.

    Raises
    ------
    ConfigurationError
        If the extra `yahoo` is not installed.
    """
    from boursomatic_assets.providers.stooq import stooq_source
    from boursomatic_assets.providers.universe import read_universe

    return FetchedProvider((yahoo_source(settings), stooq_source(settings)), partial(read_universe, settings))


def yahoo_source(settings: Settings) -> YahooSource:
    """Yahoo at the settings' gateway and rate, its caches under their home."""
    require_installed("yfinance", "curl_cffi", "tenacity")
    from boursomatic_assets.providers.yahoo_session import YahooSession

    pace = Pace(settings.requests_per_second or REQUESTS_PER_SECOND)
    return YahooSource(YahooSession(pace, settings.gateway), settings.home / "yfinance")


class YahooSource:
    """Yahoo's chart, as `yfinance` reads it.

    Parameters
    ----------
    session : YahooSession
    caches : Path
        Folder for the cookies that `yfinance` remembers.
    """

    name = "yahoo"

    def __init__(self, session: YahooSession, caches: Path) -> None:
        import yfinance

        self._session = session
        yfinance.config.debug.hide_exceptions = False
        # It calls parts of pandas that will go away: nothing that who runs this could mend.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
        # What it logs of a symbol is in that symbol's report.
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)
        _keep_caches_in(caches)

    def fetch(self, wish: Wish) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        history = self._history(wish)
        chart = self._session.chart
        if history is None:
            raise _absence(chart, wish)
        bars = within(_with_absent_volumes(_as_bars(history, wish.symbol), chart), wish)
        if bars["close"].null_count() == bars.height:
            raise _absence(chart, wish)
        _require_currency(chart["meta"].get("currency"), wish.currency)
        return bars

    def _history(self, wish: Wish) -> pd.DataFrame | None:
        """What `yfinance` makes of the chart; None if there is nothing in it."""
        from yfinance.data import YfData
        from yfinance.exceptions import YFException, YFTickerMissingError

        # It would answer a repeated question from memory, also with what had gone wrong.
        YfData.cache_get.cache_clear()
        try:
            return self._ticker(wish).history(  # type: ignore[no-any-return]
                # Around a change of clocks Yahoo may date a session an hour before its day begins.
                start=wish.first - timedelta(days=1) if wish.first else date(FIRST_YEAR, 1, 1),
                end=wish.last + timedelta(days=1),
                auto_adjust=False,
                actions=False,
                keepna=True,
            )
        except YFTickerMissingError as error:
            if self._session.chart:
                return None
            message = f"sent no chart: {error}"
            raise SourceFailedError(message) from error
        except ProviderError:
            raise
        except (OSError, YFException) as error:
            raise PassingFailureError(_without_advice(error)) from error
        # Its parser fails on a strange answer with whatever comes.
        except Exception as error:
            message = f"sent a chart that cannot be read: {type(error).__name__}: {error}"
            raise SourceFailedError(message) from error

    def _ticker(self, wish: Wish) -> Any:  # noqa: ANN401 (yfinance is not typed)
        import yfinance

        ticker = yfinance.Ticker(to_yahoo(wish.symbol), session=self._session)
        # It needs the zone for the two dates only, and would else send a second request for it.
        ticker._tz = _ZONE_OF_CALENDAR.get(calendar_of(wish.exchange) or "", "UTC")  # noqa: SLF001 (no other way in)
        return ticker


def _keep_caches_in(folder: Path) -> None:
    import yfinance
    from yfinance import cache

    yfinance.set_tz_cache_location(str(folder))
    # A cache of cookies that is already open would stay where it is. There is no other way to reopen it.
    cache._CookieCacheManager._initialise()  # noqa: SLF001


def _without_advice(error: Exception) -> str:
    return str(error).partition(" See https://curl.se")[0]


def _as_bars(history: pd.DataFrame, symbol: str) -> pl.DataFrame:
    """Scaled bars; the session is the date in the exchange's own time zone, which the index is in."""
    columns = {"session": [moment.date() for moment in history.index]} | {
        name: history[name.replace("_", " ").title()].to_numpy(dtype=float)
        for name in (*PRICE_COLUMNS, "volume", "adj_close")
    }
    schema = {"session": pl.Date, **dict.fromkeys((*PRICE_COLUMNS, "volume", "adj_close"), pl.Float64)}
    frame = pl.DataFrame(columns, schema=schema, nan_to_null=True)
    return scale_to_adjusted(frame.select(pl.lit(symbol).alias("symbol"), pl.all()))


def _with_absent_volumes(bars: pl.DataFrame, chart: dict[str, Any]) -> pl.DataFrame:
    """Take back the 0 that `yfinance` writes where Yahoo gives no volume: no bar would be missing anything."""
    volumes = chart["indicators"]["quote"][0]["volume"]
    if None not in volumes:
        return bars
    zone = ZoneInfo(chart["meta"]["exchangeTimezoneName"])
    of_session = {_session_of(moment, zone): v for moment, v in zip(chart["timestamp"], volumes, strict=True)}
    absent = [session for session, volume in of_session.items() if volume is None]
    return bars.with_columns(volume=pl.when(~pl.col("session").is_in(absent)).then("volume"))


def _session_of(moment: int, zone: ZoneInfo) -> date:
    local = (_EPOCH + timedelta(seconds=moment)).astimezone(zone)
    # Yahoo's midnights are up to two hours early around a change of clocks; yfinance reads them likewise.
    early_midnight = local.minute == 0 and local.hour >= 22  # noqa: PLR2004
    return local.date() + timedelta(days=early_midnight)


def _absence(chart: dict[str, Any], wish: Wish) -> ProviderError:
    """Why a chart has no bars."""
    traded = chart["meta"].get("regularMarketTime")
    last_trade = (_EPOCH + timedelta(seconds=traded)).date() if isinstance(traded, int) else None
    if last_trade and last_trade < wish.last - LONG_SILENCE:
        return DelistedError(f"last traded on {last_trade}, more than {LONG_SILENCE.days} days before {wish.last}")
    return NoBarsError(f"no prices from {wish.first or 'the first'} to {wish.last}")


def _require_currency(found: str | None, expected: str | None) -> None:
    # Compared letter by letter: GBp is a hundredth of GBP.
    if found and expected and found != expected:
        message = f"expected {expected}, the source trades in {found}"
        raise BarsRefusedError(message)
