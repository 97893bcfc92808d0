"""What all sources share that are reached over a network, and how one steps in for another, symbol by symbol.

A source makes one attempt for one symbol and says by its error why there are no bars. When to try again, whom to
ask next and what to report is decided here.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
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
from boursomatic_assets.providers.patience import Fuse, Patience
from boursomatic_assets.providers.source import Delivery, Outcome, SymbolReport, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

NOT_FOUND = 404
# Disagreements of a vendor with itself that a report quotes.
MOST_DOUBTS = 3


class BarsRefusedError(ProviderError, ValueError):
    """Bars that are there and must not be taken, such as prices in another currency."""


class Source(Protocol):
    """One place that has daily bars."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def fetch(self, wish: Wish) -> pl.DataFrame:
        """Fetch the bars of one symbol, at a single attempt.

        Returns
        -------
        DataFrame
            At least one row with the columns of `BAR_SCHEMA`, none outside the dates wished for. Raw prices come
            with the columns that `with_actions` adds.

        Raises
        ------
        SourceFailedError
            If it cannot be told whether there are bars; a `PassingFailureError` where trying again may help.
        SymbolNotFoundError, NoBarsError, DelistedError
            If there are none.
        BarsRefusedError
            If those that there are must not be taken.
        """


_Answer = tuple[pl.DataFrame, SymbolReport]


@dataclass(frozen=True)
class FetchedProvider:
    """Bars fetched symbol by symbol, each from the first of some sources that has it.

    Attributes
    ----------
    sources : tuple of Source
        In the order of choice. The bars of one symbol come from one of them.
    universe : callable
        Reads the instruments to follow.
    patience : Patience
    workers : int
        Symbols that are asked for at a time.
    symbols_per_delivery : int
        So many symbols at most are lost when a run is killed before their delivery was stored.
    failures_in_a_row : int
        Symbols after which a source counts as down for the rest of the deliveries.
    """

    sources: tuple[Source, ...]
    universe: Callable[[], pl.DataFrame]
    patience: Patience = field(default_factory=Patience)
    workers: int = 4
    symbols_per_delivery: int = 20
    failures_in_a_row: int = 12

    @property
    def description(self) -> str:
        """The sources by name."""
        return f"daily prices from {', else from '.join(source.name for source in self.sources)}"

    @property
    def asks_for_wishes(self) -> bool:
        """Always."""
        return True

    def instruments(self) -> pl.DataFrame:
        """The universe."""
        return self.universe()

    def deliveries(self, wishes: Sequence[Wish] = ()) -> Iterator[Delivery]:
        """Deliver in the order in which the sources answer; each wish gets one report, whatever becomes of it."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="prices")
        try:
            answers = self._answers(pool, iter(wishes))
            while batch := list(islice(answers, self.symbols_per_delivery)):
                yield _delivery(batch)
        finally:
            pool.shutdown(cancel_futures=True)

    def _answers(self, pool: ThreadPoolExecutor, wishes: Iterator[Wish]) -> Iterator[_Answer]:
        """Answers as they come. The sources work ahead of whoever stores them, yet only by a delivery."""
        ahead = self.workers + self.symbols_per_delivery
        fuses = {source.name: Fuse(self.failures_in_a_row) for source in self.sources}
        running = {pool.submit(self._answer, wish, fuses) for wish in islice(wishes, ahead)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                running |= {pool.submit(self._answer, wish, fuses) for wish in islice(wishes, 1)}

    def _answer(self, wish: Wish, fuses: Mapping[str, Fuse]) -> _Answer:
        said: dict[str, ProviderError] = {}
        for source in self.sources:
            try:
                bars = self._asked(source, wish, fuses[source.name])
            except ProviderError as error:
                said[source.name] = error
                # Another source would be taken at its word although this one says that something is wrong.
                if isinstance(error, BarsRefusedError):
                    break
            else:
                return bars, _delivered(wish, source.name, bars, said)
        return pl.DataFrame(schema=BAR_SCHEMA), _not_delivered(wish, said)

    def _asked(self, source: Source, wish: Wish, fuse: Fuse) -> pl.DataFrame:
        if fuse.is_blown:
            message = f"not asked any more, after it had failed for {fuse.failures} symbols in a row"
            raise SourceFailedError(message)
        try:
            bars = self.patience.insist(partial(source.fetch, wish))
        except ProviderError as error:
            fuse.note(failed=_word(error) is Outcome.SOURCE_FAILED)
            raise
        fuse.note(failed=False)
        return bars


def _delivery(answers: Sequence[_Answer]) -> Delivery:
    """One delivery of some answers; only vendors of raw prices state splits and dividends beside them."""
    rows = pl.concat([bars for bars, _ in answers], how="diagonal")
    reports = tuple(report for _, report in answers)
    if "ratio" not in rows.columns:
        return Delivery(rows, reports, adjusted=True)
    # A row that was sent twice is left to the bar contract; its action counts once.
    actions = rows.drop_nulls("ratio").select(list(ACTION_SCHEMA)).unique(PANEL_KEY, maintain_order=True)
    return Delivery(rows.drop("split", "dividend", "ratio", "doubt"), reports, adjusted=False, actions=actions)


def _delivered(wish: Wish, source: str, bars: pl.DataFrame, said: dict[str, ProviderError]) -> SymbolReport:
    sessions = bars["session"].drop_nulls().sort()
    first, last = (sessions[0], sessions[-1]) if sessions.len() else (None, None)
    detail = "; ".join(filter(None, [_quoted(said), *_doubts(bars)]))
    return SymbolReport(wish.symbol, Outcome.FETCHED, source, bars.height, first, last, detail)


def _doubts(bars: pl.DataFrame) -> list[str]:
    """What a vendor's tables and adjusted closes disagree on, in words; the first few."""
    said = bars["doubt"].drop_nulls().to_list() if "doubt" in bars.columns else []
    return [*said[:MOST_DOUBTS], *([f"and {len(said) - MOST_DOUBTS} more"] if len(said) > MOST_DOUBTS else [])]


def _not_delivered(wish: Wish, said: dict[str, ProviderError]) -> SymbolReport:
    outcome, detail = _outcome(list(said.values())), _quoted(said)
    if outcome is Outcome.NOT_FOUND and wish.stored:
        outcome = Outcome.DELISTED
        detail = f"{detail}. It was stored before and is no longer known: delisted or renamed"
    return SymbolReport(wish.symbol, outcome, detail=detail)


def _outcome(errors: Sequence[ProviderError]) -> Outcome:
    """One word for what all sources said."""
    words = [_word(error) for error in errors]
    # While one of them was out of order nothing is certain about the symbol.
    decisive = [word for word in (Outcome.REFUSED, Outcome.SOURCE_FAILED) if word in words]
    # Else the first choice has the say: a later one may be unable to tell an unknown symbol from one without bars.
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


def within(bars: pl.DataFrame, wish: Wish) -> pl.DataFrame:
    """Keep the sessions wished for, and rows without a session, which the bar contract is to see."""
    session = pl.col("session")
    late = (session > wish.last).fill_null(value=False)
    early = (session < wish.first).fill_null(value=False) if wish.first else pl.lit(value=False)
    return bars.filter(~late & ~early)


def through(gateway: str | None, url: str) -> str:
    """Address at which a gateway answers for another host: `https://HOST/PATH` becomes `GATEWAY/HOST/PATH`."""
    return f"{gateway.rstrip('/')}/{url.partition('://')[2]}" if gateway else url


def start_of(text: str) -> str:
    """First words of an answer that is not what was expected, for a message."""
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 80 else f"{plain[:80]}...")  # noqa: PLR2004 (about a line)


def require_installed(*modules: str) -> None:
    """Raise a ConfigurationError where a library of the extra `yahoo` is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        message = (
            f"this price source needs {', '.join(missing)}, which is not installed.\n"
            'Install it: pip install "boursomatic-assets[yahoo]"'
        )
        raise ConfigurationError(message)
