"""Independent second computation of labels, and audits of labels and membership."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_of, sessions_between

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment

_OUTCOME = {"symbol": pl.String(), "session": pl.Date(), "forward_return": pl.Float64(), "label_end": pl.Date()}


def slow_outcomes(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Forward return and end of the horizon of each bar, computed bar by bar.

    The horizon counts sessions of the `exchange`, or the instrument's own bars where that has no calendar. Returns
    `symbol`, `session`, `forward_return`, `label_end`, the last two null where the horizon has not passed.
    """
    rows: list[tuple[str, date, float | None, date | None]] = []
    for own in closes.partition_by("symbol"):
        symbol, sessions, prices = own["symbol"][0], own["session"].to_list(), own["close"].to_list()
        calendar = calendar_of(own["exchange"][0]) if "exchange" in own.columns else None
        known: list[date] = []
        if calendar is not None and sessions[-1] >= FIRST_SESSION:
            known = sessions_between(calendar, max(sessions[0], FIRST_SESSION), sessions[-1]).to_list()
        for place, (session, price) in enumerate(zip(sessions, prices, strict=True)):
            by_calendar = calendar is not None and session >= FIRST_SESSION
            calendar_days = known if by_calendar else sessions
            reached = bisect_right(calendar_days, session) - 1 + horizon
            end = calendar_days[reached] if reached < len(calendar_days) else None
            there = bisect_right(sessions, end) - 1 if end else place
            passed = there > place
            rows.append((symbol, session, prices[there] / price - 1 if passed else None, end if passed else None))
    return pl.DataFrame(rows, schema=_OUTCOME, orient="row")


def contradicted_labels(labels: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """Rows whose label does not follow from their forward return and the experiment's thresholds."""
    gain = pl.col("forward_return")
    holds = {
        "BUY": gain >= experiment.buy_threshold,
        "SELL": gain <= experiment.sell_threshold,
        "HOLD": (gain < experiment.buy_threshold) & (gain > experiment.sell_threshold),
    }
    named = pl.col("label").cast(pl.String)
    agrees = pl.any_horizontal((named == name) & rule for name, rule in holds.items())
    return labels.filter(~pl.when(gain.is_null()).then(named.is_null()).otherwise(agrees).fill_null(value=False))


def inconsistent_rows(labels: pl.DataFrame, experiment: Experiment) -> dict[str, int]:
    """Count rows whose label, return and sessions contradict each other, by kind of contradiction."""
    unrealised = (
        (pl.col("realised_on") <= pl.col("session"))
        | (pl.col("realised_on").is_null() != pl.col("realised_return").is_null())
        | (pl.col("realised_return") != pl.col("forward_return"))
        | (pl.col("realised_on") != pl.col("label_end"))
    )
    without_return = pl.col("label_end").is_null() != pl.col("forward_return").is_null()
    return {
        "realised_unlike_the_label": labels.filter(unrealised).height,
        "labels_too_early": labels.filter(pl.col("label_end") <= pl.col("session")).height,
        "labels_without_return": labels.filter(without_return).height,
        "labels_unlike_their_return": contradicted_labels(labels, experiment).height,
    }


def outlived_labels(labels: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Rows whose label ends after the `last` bar of their symbol in `spans`."""
    beside = labels.select(*PANEL_KEY, "label_end").join(spans.select("symbol", "last"), on="symbol", how="left")
    known = pl.col("label_end").is_not_null()
    return beside.filter(known & (pl.col("label_end") > pl.col("last")).fill_null(value=True))


def non_members(panel: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """Rows of instruments that were no members at the row's session; none for an empty list.

    `panel` is sorted by symbol and session, `members` is of `membership.MEMBER_SCHEMA`.
    """
    if members.is_empty():
        return panel.select(PANEL_KEY).clear()
    spans: dict[str, list[tuple[date, date | None]]] = {}
    for symbol, first, until in members.iter_rows():
        spans.setdefault(symbol, []).append((first, until))
    strangers = [panel.select(PANEL_KEY).clear()]
    for own in panel.select(PANEL_KEY).partition_by("symbol"):
        session, belongs = own["session"], np.zeros(own.height, dtype=bool)
        for first, until in spans.get(own["symbol"][0], []):
            left = session.search_sorted(until) if until else own.height
            belongs[session.search_sorted(first) : left] = True
        strangers.append(own.filter(~pl.Series(belongs)))
    return pl.concat(strangers)


def forgotten_members(panel: pl.DataFrame, members: pl.DataFrame, available: pl.DataFrame) -> list[str]:
    """Symbols without a row in `panel` that had rows in `available` while they were members.

    `members` is of `membership.MEMBER_SCHEMA`; `available` has `symbol`, `first` and `last` session.
    """
    both = members.join(available, on="symbol")
    begins = pl.max_horizontal("member_from", "first")
    ends = pl.min_horizontal(pl.col("member_until").dt.offset_by("-1d"), "last")
    expected = both.filter(begins <= ends)["symbol"].unique()
    return sorted(set(expected) - set(panel["symbol"].unique()))
