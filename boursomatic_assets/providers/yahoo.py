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
from boursomatic_assets.providers.retry_policy import Pace, PassingFailureError
from boursomatic_assets.providers.symbols import to_yahoo

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.providers.yahoo_session import YahooSession
    from boursomatic_assets.settings import Settings

REQUESTS_PER_SECOND = 4.0
# A symbol without a trade for longer than this counts as delisted; trading halts are shorter.
LONG_SILENCE = timedelta(days=30)

_ZONE_OF_CALENDAR = {
    "XNYS": "America/New_York",
    "XPAR": "Europe/Paris",
    "XAMS": "Europe/Amsterdam",
    "XBRU": "Europe/Brussels",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def yahoo_provider(settings: Settings) -> FetchedProvider:
    """Yahoo, with Stooq as the fallback, for the universe in the settings.

    Raises ConfigurationError if the extra `yahoo` is not installed.
    """
    from boursomatic_assets.providers.stooq import stooq_source
    from boursomatic_assets.providers.universe import read_universe

    sources = (yahoo_source(settings), stooq_source(settings))
    return FetchedProvider(sources, partial(read_universe, settings), secrets=settings.secrets)


def yahoo_source(settings: Settings) -> YahooSource:
    """Yahoo with the gateway and rate of the settings; its caches are in the home."""
    require_installed("yfinance", "curl_cffi", "tenacity")
    from boursomatic_assets.providers.yahoo_session import YahooSession

    pace = Pace(settings.requests_per_second or REQUESTS_PER_SECOND)
    return YahooSource(YahooSession(pace, settings.gateway), settings.home / "yfinance")


class YahooSource:
    """Yahoo's chart, as `yfinance` reads it; `caches` is the folder for its cookies."""

    name = "yahoo"

    def __init__(self, session: YahooSession, caches: Path) -> None:
        import yfinance

        self._session = session
        yfinance.config.debug.hide_exceptions = False
        # yfinance calls deprecated parts of pandas; users cannot change that.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
        # The symbol's report has what yfinance logs.
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)
        _keep_caches_in(caches)

    def fetch(self, request: BarRequest) -> pl.DataFrame:
        """Fetch the bars of one symbol; see `Source`."""
        history = self._history(request)
        chart = self._session.chart
        if history is None:
            raise _absence(chart, request)
        bars = within(_with_absent_volumes(_as_bars(history, request.symbol), chart), request)
        if bars["close"].null_count() == bars.height:
            raise _absence(chart, request)
        _require_currency(chart["meta"].get("currency"), request.currency)
        return bars

    def _history(self, request: BarRequest) -> pd.DataFrame | None:
        """The chart as `yfinance` parses it; None if it is empty."""
        from yfinance.data import YfData
        from yfinance.exceptions import YFException, YFTickerMissingError

        # yfinance caches answers, also failed ones: a retry would get the cached answer.
        YfData.cache_get.cache_clear()
        try:
            return self._ticker(request).history(  # type: ignore[no-any-return]
                # Around a clock change, Yahoo may date a session one hour before its day begins.
                start=request.first - timedelta(days=1) if request.first else date(FIRST_YEAR, 1, 1),
                end=request.last + timedelta(days=1),
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
        # Its parser may raise any exception for an unexpected answer.
        except Exception as error:
            message = f"sent a chart that cannot be read: {type(error).__name__}: {error}"
            raise SourceFailedError(message) from error

    def _ticker(self, request: BarRequest) -> Any:  # noqa: ANN401 (yfinance is not typed)
        import yfinance

        ticker = yfinance.Ticker(to_yahoo(request.symbol), session=self._session)
        # yfinance needs the zone only for the two dates. Without it, yfinance would send a second request.
        ticker._tz = _ZONE_OF_CALENDAR.get(calendar_of(request.exchange) or "", "UTC")  # noqa: SLF001 (no other way in)
        return ticker


def _keep_caches_in(folder: Path) -> None:
    import yfinance
    from yfinance import cache

    yfinance.set_tz_cache_location(str(folder))
    # A cookie cache that is already open would stay at its old place; there is no public way to reopen it.
    cache._CookieCacheManager._initialise()  # noqa: SLF001


def _without_advice(error: Exception) -> str:
    return str(error).partition(" See https://curl.se")[0]


def _as_bars(history: pd.DataFrame, symbol: str) -> pl.DataFrame:
    """Scaled bars; the session is the date in the exchange's time zone, which is that of the index."""
    columns = {"session": [moment.date() for moment in history.index]} | {
        name: history[name.replace("_", " ").title()].to_numpy(dtype=float)
        for name in (*PRICE_COLUMNS, "volume", "adj_close")
    }
    schema = {"session": pl.Date, **dict.fromkeys((*PRICE_COLUMNS, "volume", "adj_close"), pl.Float64)}
    frame = pl.DataFrame(columns, schema=schema, nan_to_null=True)
    return scale_to_adjusted(frame.select(pl.lit(symbol).alias("symbol"), pl.all()))


def _with_absent_volumes(bars: pl.DataFrame, chart: dict[str, Any]) -> pl.DataFrame:
    """Bars with null where Yahoo gives no volume; the 0 of `yfinance` would hide the gap."""
    volumes = chart["indicators"]["quote"][0]["volume"]
    if None not in volumes:
        return bars
    zone = ZoneInfo(chart["meta"]["exchangeTimezoneName"])
    of_session = {_session_of(moment, zone): v for moment, v in zip(chart["timestamp"], volumes, strict=True)}
    absent = [session for session, volume in of_session.items() if volume is None]
    return bars.with_columns(volume=pl.when(~pl.col("session").is_in(absent)).then("volume"))


def _session_of(moment: int, zone: ZoneInfo) -> date:
    local = (_EPOCH + timedelta(seconds=moment)).astimezone(zone)
    # Around a clock change, Yahoo's midnights are up to two hours early; yfinance corrects them likewise.
    early_midnight = local.minute == 0 and local.hour >= 22  # noqa: PLR2004
    return local.date() + timedelta(days=early_midnight)


def _absence(chart: dict[str, Any], request: BarRequest) -> ProviderError:
    """Error that says why a chart has no bars."""
    traded = chart["meta"].get("regularMarketTime")
    last_trade = (_EPOCH + timedelta(seconds=traded)).date() if isinstance(traded, int) else None
    if last_trade and last_trade < request.last - LONG_SILENCE:
        return DelistedError(
            f"last traded on {last_trade}, more than {LONG_SILENCE.days} days before {request.last}"
        )
    return NoBarsError(f"no prices from {request.first or 'the first'} to {request.last}")


def _require_currency(found: str | None, expected: str | None) -> None:
    # Case matters: GBp is a hundredth of GBP.
    if found and expected and found != expected:
        message = f"expected {expected}, the source trades in {found}"
        raise BarsRefusedError(message)
