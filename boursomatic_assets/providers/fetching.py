"""Fetching symbol by symbol over a network: retries, fallback to the next source, and reports.

A source makes one attempt for one symbol; its error says why there are no bars.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA, PANEL_KEY
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA
from boursomatic_assets.errors import (
    ConfigurationError,
    DelistedError,
    NoBarsError,
    ProviderError,
    SourceFailedError,
    SymbolNotFoundError,
)
from boursomatic_assets.providers.retry_policy import CircuitBreaker, RetryPolicy
from boursomatic_assets.providers.source import BarBatch, BarRequest, Outcome, SymbolReport
from boursomatic_assets.settings.hiding import hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NOT_FOUND = 404
# Largest number of disagreements within a vendor's data that a report quotes.
MOST_DOUBTS = 3
# A message quotes the first words among these characters of an answer.
LONGEST_START = 2_000
LONGEST_DETAIL = 2_000


class BarsRefusedError(ProviderError, ValueError):
    """Bars that exist but must not be used, such as prices in another currency."""


class Source(Protocol):
    """A source of daily bars."""

    @property
    def name(self) -> str:
        """Name in reports."""

    def fetch(self, request: BarRequest) -> pl.DataFrame:
        """Fetch the bars of one symbol in a single attempt.

        Returns
        -------
        DataFrame
            At least one row with the columns of `BAR_SCHEMA`, within the requested dates. Raw prices also have the
            columns that `with_actions` adds.

        Raises
        ------
        SourceFailedError
            If the source fails; a `PassingFailureError` if a retry may help.
        SymbolNotFoundError, NoBarsError, DelistedError
            If there are no bars.
        BarsRefusedError
            If the bars must not be used.
        """


_Answer = tuple[pl.DataFrame, SymbolReport]


@dataclass(frozen=True)
class FetchedProvider:
    """Bars fetched symbol by symbol, each symbol from the first of the `sources` that has it.

    `universe` reads the instruments. `workers` symbols are requested at a time. A killed run loses at most
    `symbols_per_batch` symbols. No report contains one of `secrets`. After `failures_in_a_row` failed symbols,
    a source counts as down.
    """

    sources: tuple[Source, ...]
    universe: Callable[[], pl.DataFrame]
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    workers: int = 4
    symbols_per_batch: int = 20
    secrets: tuple[str, ...] = field(default=(), repr=False)
    failures_in_a_row: int = 12

    @property
    def description(self) -> str:
        """Names of the sources, in order of preference."""
        return f"daily prices from {', else from '.join(source.name for source in self.sources)}"

    @property
    def fetches_by_symbol(self) -> bool:
        """Always true."""
        return True

    def instruments(self) -> pl.DataFrame:
        """Instruments of the universe."""
        return self.universe()

    def batches(self, requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        """Deliver bars in the order of the sources' answers; each request gets exactly one report."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="prices")
        try:
            answers = self._answers(pool, iter(requests))
            while some := list(islice(answers, self.symbols_per_batch)):
                yield _batch_of(some)
        finally:
            pool.shutdown(cancel_futures=True)

    def _answers(self, pool: ThreadPoolExecutor, requests: Iterator[BarRequest]) -> Iterator[_Answer]:
        """Yield answers as they arrive; at most `workers` requests more than one batch are sent ahead."""
        ahead = self.workers + self.symbols_per_batch
        breakers = {source.name: CircuitBreaker(self.failures_in_a_row) for source in self.sources}
        running = {pool.submit(self._answer, request, breakers) for request in islice(requests, ahead)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                running |= {pool.submit(self._answer, request, breakers) for request in islice(requests, 1)}

    def _answer(self, request: BarRequest, breakers: Mapping[str, CircuitBreaker]) -> _Answer:
        said: dict[str, ProviderError] = {}
        for source in self.sources:
            try:
                bars = self._asked(source, request, breakers[source.name])
            except ProviderError as error:
                said[source.name] = error
                # This source reports a fault in the data; another source must not hide it.
                if isinstance(error, BarsRefusedError):
                    break
            else:
                return bars, self._shown(_delivered(request, source.name, bars, said))
        return pl.DataFrame(schema=BAR_SCHEMA), self._shown(_not_delivered(request, said))

    def _shown(self, report: SymbolReport) -> SymbolReport:
        """The report as people and programs may read it: they may not know the keys."""
        return replace(report, detail=hide(report.detail, self.secrets)[:LONGEST_DETAIL])

    def _asked(self, source: Source, request: BarRequest, breaker: CircuitBreaker) -> pl.DataFrame:
        if breaker.is_open:
            message = f"not asked any more, after it had failed for {breaker.failures} symbols in a row"
            raise SourceFailedError(message)
        try:
            bars = self.retry_policy.call(partial(_fetched, source, request))
        except ProviderError as error:
            breaker.note(failed=_word(error) is Outcome.SOURCE_FAILED)
            raise
        breaker.note(failed=False)
        return bars


def _fetched(source: Source, request: BarRequest) -> pl.DataFrame:
    """One attempt; whatever an unexpected answer breaks is the source's failure, not that of the update."""
    try:
        return source.fetch(request)
    except ProviderError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        message = f"sent what cannot be read: {type(error).__name__}: {error}"
        raise SourceFailedError(message) from error


def _batch_of(answers: Sequence[_Answer]) -> BarBatch:
    """Combine answers into one batch; only raw prices come with splits and dividends."""
    rows = pl.concat([bars for bars, _ in answers], how="diagonal")
    reports = tuple(report for _, report in answers)
    if "ratio" not in rows.columns:
        return BarBatch(rows, reports, adjusted=True)
    # Duplicate rows are left to the bar contract; their action counts once.
    actions = rows.drop_nulls("ratio").select(list(ACTION_SCHEMA)).unique(PANEL_KEY, maintain_order=True)
    return BarBatch(rows.drop("split", "dividend", "ratio", "doubt"), reports, adjusted=False, actions=actions)


def _delivered(
    request: BarRequest, source: str, bars: pl.DataFrame, said: dict[str, ProviderError]
) -> SymbolReport:
    sessions = bars["session"].drop_nulls().sort()
    first, last = (sessions[0], sessions[-1]) if sessions.len() else (None, None)
    detail = "; ".join(filter(None, [_quoted(said), *_doubts(bars)]))
    return SymbolReport(request.symbol, Outcome.FETCHED, source, bars.height, first, last, detail)


def _doubts(bars: pl.DataFrame) -> list[str]:
    """The first disagreements between a vendor's tables and its adjusted closes, as text."""
    said = bars["doubt"].drop_nulls().to_list() if "doubt" in bars.columns else []
    return [*said[:MOST_DOUBTS], *([f"and {len(said) - MOST_DOUBTS} more"] if len(said) > MOST_DOUBTS else [])]


def _not_delivered(request: BarRequest, said: dict[str, ProviderError]) -> SymbolReport:
    outcome, detail = _outcome(list(said.values())), _quoted(said)
    if outcome is Outcome.NOT_FOUND and request.stored:
        outcome = Outcome.DELISTED
        detail = f"{detail}. It was stored before and is no longer known: delisted or renamed"
    return SymbolReport(request.symbol, outcome, detail=detail)


def _outcome(errors: Sequence[ProviderError]) -> Outcome:
    """One outcome for the errors of all sources."""
    words = [_word(error) for error in errors]
    # After a refusal or a failure, nothing is certain about the symbol.
    decisive = [word for word in (Outcome.REFUSED, Outcome.SOURCE_FAILED) if word in words]
    # Otherwise the first source decides: a later one may confuse an unknown symbol with one without bars.
    return decisive[0] if decisive else words[0]


def _word(error: ProviderError) -> Outcome:
    words = {
        BarsRefusedError: Outcome.REFUSED,
        SymbolNotFoundError: Outcome.NOT_FOUND,
        NoBarsError: Outcome.EMPTY,
        DelistedError: Outcome.DELISTED,
    }
    return next((word for kind, word in words.items() if isinstance(error, kind)), Outcome.SOURCE_FAILED)


def _quoted(said: dict[str, ProviderError]) -> str:
    return "; ".join(f"{name}: {error}" for name, error in said.items())


def within(bars: pl.DataFrame, request: BarRequest) -> pl.DataFrame:
    """Keep the requested sessions, and rows without a session, which the bar contract reports."""
    session = pl.col("session")
    late = (session > request.last).fill_null(value=False)
    early = (session < request.first).fill_null(value=False) if request.first else pl.lit(value=False)
    return bars.filter(~late & ~early)


def no_bars(request: BarRequest) -> NoBarsError:
    """The error of a source that has no bar of the requested sessions."""
    return NoBarsError(f"no bars from {request.first or 'the first'} to {request.last}")


def through(gateway: str | None, url: str) -> str:
    """URL behind a gateway: `https://HOST/PATH` becomes `GATEWAY/HOST/PATH`; unchanged without a gateway."""
    return f"{gateway.rstrip('/')}/{url.partition('://')[2]}" if gateway else url


def start_of(text: str) -> str:
    """First words of an unexpected answer, quoted for a message."""
    plain = " ".join(text[:LONGEST_START].split())
    return repr(plain if len(plain) <= 80 else f"{plain[:80]}...")  # noqa: PLR2004 (about a line)


def require_installed(*modules: str) -> None:
    """Raise ConfigurationError if a library of the extra `yahoo` is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        message = (
            f"this price source needs {', '.join(missing)}, which is not installed.\n"
            'Install it: pip install "boursomatic-assets[yahoo]"'
        )
        raise ConfigurationError(message)
