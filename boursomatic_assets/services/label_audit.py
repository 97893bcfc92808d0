"""Labels compared with the stored bars, features and memberships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.dataset.label_audit import (
    forgotten_members,
    non_members,
    outlived_labels,
    slow_outcomes,
)
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.leaks import different_rows, sampled_symbols
from boursomatic_assets.core.dataset.price_levels import rows_that_follow_levels, why_levels_are_refused
from boursomatic_assets.core.market.membership import within_membership
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.market_tables import read_spans, read_usable_bars
from boursomatic_assets.storage.postgres.membership_table import read_members
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.storage.postgres.database import Database


@dataclass(frozen=True)
class LabelAudit:
    """Number of compared rows, and of wrong ones."""

    rows: int
    wrong_rows: int


@dataclass(frozen=True)
class LevelAudit:
    """Model inputs that change when whole histories of prices and volumes are scaled.

    `changed` counts rows by `input` and `is_own`; `rows` and `symbols` describe the scaled bars.
    """

    guilty: list[str]
    changed: pl.DataFrame
    why: str | None
    rows: int
    symbols: int


@dataclass(frozen=True)
class MembershipAudit:
    """Rows of non-members, members without a row, and number of memberships."""

    strangers: int
    forgotten: list[str]
    memberships: int


def audit_label_values(
    database: Database, labels: pl.DataFrame, experiment: Experiment
) -> tuple[LabelAudit, LabelAudit]:
    """Compute closes with returns, and label ends, of sampled symbols a second time, bar by bar."""
    symbols = _symbols(labels)
    selection = Selection(lookback_days=experiment.lookback_days, symbols=symbols)
    closes = read_usable_bars(database, ["close", "exchange"], selection)
    some = labels.filter(pl.col("symbol").is_in(symbols)).select(
        "symbol", "session", "close", "forward_return", "label_end"
    )
    expected = closes.join(slow_outcomes(closes, experiment.horizon), on=["symbol", "session"])
    expected = expected.join(some, on=["symbol", "session"], how="semi")
    ends = some.join(expected, on=["symbol", "session"], how="left", suffix="_expected")
    wrong_ends = ends.filter(pl.col("label_end").ne_missing(pl.col("label_end_expected"))).height
    wrong_returns = different_rows(some, expected, ["close", "forward_return"]).height
    return LabelAudit(some.height, wrong_returns), LabelAudit(some.height, wrong_ends)


def labels_without_a_bar(database: Database, labels: pl.DataFrame) -> pl.DataFrame:
    """Rows whose label ends after the last bar of their symbol."""
    return outlived_labels(labels, read_spans(database))


def audit_inputs(database: Database, labels: pl.DataFrame, names: Sequence[str]) -> LabelAudit:
    """Compare the inputs in the labels with the stored features and those derived from them."""
    symbols = _symbols(labels)
    some = labels.filter(pl.col("symbol").is_in(symbols))
    stored = read_features(database, selection=Selection(symbols=symbols))
    there = stored.join(some.select("symbol", "session", "close"), on=["symbol", "session"])
    return LabelAudit(some.height, different_rows(some, with_derived_inputs(there), names).height)


def audit_levels(
    database: Database, labels: pl.DataFrame, compute: Callable[[pl.DataFrame], pl.DataFrame], names: Sequence[str]
) -> LevelAudit:
    """Scale the histories of sampled symbols by constants, and find the inputs that change."""
    bars = read_usable_bars(database, selection=Selection(symbols=_symbols(labels)))
    moved = rows_that_follow_levels(bars, compute, names)
    guilty = moved["input"].unique().sort().to_list()
    changed = moved.group_by("input", "is_own").agg(rows=pl.len()).sort("input", "is_own")
    why = why_levels_are_refused(guilty) if guilty else None
    return LevelAudit(guilty, changed, why, bars.height, bars["symbol"].n_unique())


def audit_members(database: Database, labels: pl.DataFrame, benchmark: str | None) -> MembershipAudit:
    """Compare the rows of the labels with the memberships; the benchmark is no member."""
    members = read_members(database).filter(pl.col("symbol").ne_missing(pl.lit(benchmark, pl.String)))
    available = read_spans(database, "features", labels["session"].min())  # type: ignore[arg-type]
    forgotten = forgotten_members(labels, members, available)
    return MembershipAudit(non_members(labels, members).height, forgotten, members.height)


def _symbols(labels: pl.DataFrame) -> list[str]:
    spans = labels.group_by("symbol").agg(rows=pl.len(), last=pl.col("session").max())
    return sampled_symbols(spans)


def labels_today(database: Database, experiment: Experiment, since: date) -> pl.DataFrame:
    """The label panel that the database gives now for an experiment, from a session on."""
    selection = Selection(since=since)
    features = read_features(database, table_columns(experiment.features), selection)
    closes = read_usable_bars(database, ("close", "exchange"), selection)
    return within_membership(label_panel(features, closes, experiment), read_members(database))
