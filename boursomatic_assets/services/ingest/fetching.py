"""Bars fetched over a network: only missing ones, symbol by symbol, each piece stored as it arrives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, CheckedBars
from boursomatic_assets.core.market.calendars import CALENDARS, calendar_of, last_complete_session
from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport
from boursomatic_assets.core.market.overlap import SAME_CLOSE, SAME_PRICE, compare_overlap
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.providers.source import BarBatch, BarRequest, Provider
from boursomatic_assets.services.ingest.bars import (
    DISAGREEMENT_SCHEMA,
    BarUpdate,
    checked_batch,
    record_jumps,
    stored_beside,
    without_stored,
)
from boursomatic_assets.storage.postgres.adjustments_table import replace_actions
from boursomatic_assets.storage.postgres.database import advisory_lock
from boursomatic_assets.storage.postgres.fetch_log import (
    begin_round,
    finish_round,
    read_results,
    record_results,
    sources_in_use,
)
from boursomatic_assets.storage.postgres.market_tables import first_sessions, read_tails, upsert_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date, datetime

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database


def fetch_missing(
    database: Database, provider: Provider, settings: Settings, now: datetime, note: Callable[[str], None]
) -> BarUpdate:
    """Fetch the sessions after the newest stored one of each symbol that are over `now`, and the last few again.

    A symbol whose stored sessions the source changed is fetched whole. A killed run is resumed by the next one.
    Updates exclude each other. Raises ConfigurationError if the settings name an exchange without a calendar.
    """
    if unknown := sorted(set(settings.exchanges) - set(CALENDARS)):
        message = f"BOURSOMATIC_EXCHANGES must name calendars out of {', '.join(CALENDARS)}; found {unknown}"
        raise ConfigurationError(message)
    with database.bulk() as turn:
        advisory_lock(turn, "fetching")
        number, done = begin_round(database, settings.provider, ",".join(settings.exchanges) or "all")
        listed = provider.instruments().filter(~pl.col("symbol").is_in(list(done)))
        tails = read_tails(database, listed["symbol"].to_list(), settings.overlap_sessions)
        fetching = _Fetching(
            database, number, settings.provider, tails, sources_in_use(turn), now, settled=len(done)
        )
        requests = [
            request
            for request in requests_for(listed, tails, now)
            if not settings.exchanges or calendar_of(request.exchange) in settings.exchanges
        ]
        again = fetching.take(provider.batches(requests), requests, note)
        fetching.firsts = first_sessions(database, [request.symbol for request in again])
        fetching.take(provider.batches(again), again, note)
        finish_round(database, number)
        fetching.update.reports = read_results(database, number)
    return fetching.update


def requests_for(listed: pl.DataFrame, tails: pl.DataFrame, now: datetime) -> list[BarRequest]:
    """Bars that each listed symbol still needs, beyond the newest stored ones (`tails`)."""
    starts = dict(tails.group_by("symbol").agg(pl.col("session").min()).iter_rows())
    lasts = {
        exchange: last_complete_session(calendar, now) if calendar else now.date() - timedelta(days=1)
        for exchange in listed["exchange"].unique().to_list()
        for calendar in [calendar_of(exchange)]
    }
    return [
        BarRequest(symbol, exchange, starts.get(symbol), lasts[exchange], currency, stored=symbol in starts)
        for symbol, exchange, currency in listed.select("symbol", "exchange", "currency").iter_rows()
    ]


@dataclass
class _Fetching:
    """State and result of one round of fetching."""

    database: Database
    number: int
    first_choice: str
    tails: pl.DataFrame
    sources: Mapping[str, str]
    now: datetime
    settled: int
    firsts: Mapping[str, date] = field(default_factory=dict)
    update: BarUpdate = field(default_factory=BarUpdate)

    def take(
        self, batches: Iterable[BarBatch], requests: Sequence[BarRequest], note: Callable[[str], None]
    ) -> list[BarRequest]:
        """Store batches as they come, each in one transaction; returns the symbols to fetch again, whole."""
        wanted, total, again = {request.symbol: request for request in requests}, self.settled + len(requests), []
        for batch in batches:
            with self.database.bulk() as cursor:
                stored = stored_beside(cursor, batch)
            checked = checked_batch(batch, self.now.date(), stored)
            verdicts = self._verdicts(batch, checked.accepted, wanted)
            again += [
                replace(wanted[symbol], first=None) for symbol, verdict in verdicts.items() if verdict is None
            ]
            settled = [verdict for verdict in verdicts.values() if verdict]
            self._keep(checked, stored.bars, settled, self._stated(batch, settled, wanted))
            self.settled += sum(verdict is not None for verdict in verdicts.values())
            note(f"{self.settled:,} of {total:,} symbols")
        return again

    def _verdicts(
        self, batch: BarBatch, accepted: pl.DataFrame, wanted: Mapping[str, BarRequest]
    ) -> dict[str, SymbolReport | None]:
        """Report on each symbol; None for one whose history was rewritten and must be fetched whole."""
        overlap = {row["symbol"]: row for row in compare_overlap(self.tails, accepted).iter_rows(named=True)}
        spans = dict(accepted.group_by("symbol").agg(pl.col("session").min()).iter_rows())
        return {
            report.symbol: self._verdict(
                report, wanted[report.symbol], overlap.get(report.symbol), spans.get(report.symbol)
            )
            for report in batch.reports
        }

    def _verdict(
        self,
        report: SymbolReport,
        request: BarRequest,
        overlap: Mapping[str, Any] | None,
        first: Any,  # noqa: ANN401
    ) -> SymbolReport | None:
        if report.outcome is not Outcome.FETCHED:
            return report
        if first is None:
            return _refused(report, "none of its bars keeps the bar contract: see the table rejected_bars")
        known = self.firsts.get(report.symbol)
        if known and first > known:
            return _refused(report, f"its history was rewritten, and {report.source} has it only from {first} on")
        if request.first is None and request.stored and not self._may_rewrite(report):
            return _refused(report, f"its history was rewritten, and {report.source} is not where it came from")
        if overlap is None or request.first is None:
            return report
        return self._compared(report, overlap)

    def _may_rewrite(self, report: SymbolReport) -> bool:
        """Whether a source may replace history: the first choice, or the symbol's last source."""
        return report.source in {self.first_choice, self.sources.get(report.symbol)}

    def _compared(self, report: SymbolReport, overlap: Mapping[str, Any]) -> SymbolReport | None:
        """Judge an overlap: some sources may rewrite history, the others must agree with it."""
        far = overlap["close_gap"] > SAME_CLOSE
        if far and report.source != self.sources.get(report.symbol, self.first_choice):
            row = pl.DataFrame([{**overlap, "source": report.source}], schema_overrides=DISAGREEMENT_SCHEMA)
            self.update.disagreements.extend(row.select(*DISAGREEMENT_SCHEMA))
        if self._may_rewrite(report):
            return None if overlap["price_gap"] > SAME_PRICE else report
        gap = f"{overlap['close_gap']:.1%} on {overlap['session']}"
        return _refused(report, f"its close differs from the stored one by {gap}") if far else report

    def _stated(
        self, batch: BarBatch, reports: Sequence[SymbolReport], wanted: Mapping[str, BarRequest]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Spans of which sources say what splits and dividends there are, and those there are.

        Up to the first session requested the stored bars stay, and with them what is stated of them. A source that
        may not rewrite history says nothing on it either.
        """
        taken = [report for report in reports if report.outcome is Outcome.FETCHED and self._may_rewrite(report)]
        rows = [(report.symbol, wanted[report.symbol].first, None) for report in taken]
        schema = {"symbol": pl.String, "after": pl.Date, "until": pl.Date}
        spans = pl.DataFrame(rows, schema=schema, orient="row")
        inside = (pl.col("session") > pl.col("after")).fill_null(value=True)
        return spans, batch.actions.join(spans, on="symbol").filter(inside).drop("after", "until")

    def _keep(
        self,
        checked: CheckedBars,
        beside: pl.DataFrame,
        reports: Sequence[SymbolReport],
        stated: tuple[pl.DataFrame, pl.DataFrame],
    ) -> None:
        """Store bars, actions and reports of the settled symbols together, so that none is there alone."""
        taken = [report.symbol for report in reports if report.outcome is Outcome.FETCHED]
        accepted = checked.accepted.filter(pl.col("symbol").is_in(taken))
        rejected = checked.rejected.filter(pl.col("symbol").is_in([report.symbol for report in reports]))
        others = [report.symbol for report in reports if not self._may_rewrite(report)]
        fresh = CheckedBars(self._without_unchanged(accepted, others), rejected)
        self.update.tally = self.update.tally.plus(without_stored(CheckedBars(accepted, rejected), beside))
        with self.database.bulk() as cursor:
            sources = sorted({report.source for report in reports if report.source})
            written = upsert_bars(cursor, fresh, ",".join(sources))
            self.update.add(written, unchanged=accepted.height - fresh.accepted.height)
            replace_actions(cursor, *stated)
            record_jumps(cursor, CheckedBars(accepted, rejected), beside)
            record_results(cursor, self.number, reports)

    def _without_unchanged(self, accepted: pl.DataFrame, others: Sequence[str]) -> pl.DataFrame:
        """Drop rows that equal the stored tail up to rounding, and stored rows the source may not rewrite."""
        beside = accepted.join(self.tails, on=PANEL_KEY, how="left", suffix="_stored", maintain_order="left")
        same = pl.all_horizontal(
            (pl.col(name) / pl.col(f"{name}_stored") - 1).abs() <= SAME_PRICE
            for name in ("open", "high", "low", "close")
        ) & (pl.col("volume") == pl.col("volume_stored"))
        stored = pl.col("close_stored").is_not_null() & pl.col("symbol").is_in(list(others))
        return beside.filter(~same.fill_null(value=False) & ~stored).select(accepted.columns)


def _refused(report: SymbolReport, why: str) -> SymbolReport:
    return replace(report, outcome=Outcome.REFUSED, detail="; ".join(filter(None, [report.detail, why])))
