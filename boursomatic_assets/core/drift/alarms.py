"""Alarms of drift: consecutive windows with an alarm, the newest alarm, and its cause in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.drift.windows import PREDICTIONS, WINDOW
from boursomatic_assets.core.market.printed import told_apart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

_WORDS = {
    "psi": "the shares of its values moved to other bins",
    "kolmogorov_smirnov": "its distribution moved",
    "jensen_shannon": "its distribution changed",
    "spread": "instruments spread wider or closer than before",
    "asymmetry": "its asymmetry changed",
    "rank_correlation": "it goes together with {partner} in another way",
    "class_mix": "the mix of predicted classes changed",
    "mean_probability_buy": "the mean probability of BUY changed",
}


@dataclass(frozen=True)
class Episode:
    """Consecutive windows with an alarm; `first` and `last` are the sessions with which they end."""

    first: date
    last: date
    windows: int


def episodes(scan: pl.DataFrame) -> list[Episode]:
    """Group consecutive alarmed windows of `scan_drift`."""
    runs = scan.with_columns(run=pl.col("alarmed").rle_id()).filter("alarmed")
    found = runs.group_by("run", maintain_order=True).agg(
        first=pl.col("session").first(), last=pl.col("session").last(), windows=pl.len()
    )
    return [Episode(**row) for row in found.drop("run").iter_rows(named=True)]


def newest_alarm(scan: pl.DataFrame) -> Episode | None:
    """The newest event that raised alarms; None without any.

    Windows less than five sessions apart share sessions: their alarms are one event.
    """
    places = np.flatnonzero(scan["alarmed"].to_numpy())
    if not len(places):
        return None
    begins = np.flatnonzero(np.diff(places) >= WINDOW) + 1
    event = places[begins[-1] if len(begins) else 0 :]
    return Episode(scan["session"][int(event[0])], scan["session"][int(event[-1])], len(event))


def words_of(alarm: Episode, scan: pl.DataFrame, drift: pl.DataFrame) -> str:
    """Say in one sentence what raised an alarm, also when it is over; `scan` and `drift` are of the same rows."""
    if alarm.last == scan["session"].max():
        return cause_of(drift)
    own = scan.filter(pl.col("alarmed") & pl.col("session").is_between(alarm.first, alarm.last))
    worst = own.sort("p_value", maintain_order=True).row(0, named=True)
    words = _WORDS[worst["statistic"]].format(partner="another feature")
    return (
        f"{worst['feature']} was not what it had been in the sessions before {worst['session']}: {words} "
        f"({worst['statistic']}); no alarm since {alarm.last}."
    )


def cause_of(drift: pl.DataFrame) -> str:
    """Say in one sentence why `detect_drift` found an alarm, or that it found none."""
    if drift["p_value"].null_count() == drift.height:
        return "There is no alarm level: the training panel had too few windows to know what is usual."
    first = drift.row(0, named=True)
    if not drift["alarmed"].any():
        return f"No alarm: the most unusual is {first['statistic']} of {first['feature']}, {_below_level(first)}."
    alarmed = drift.filter("alarmed")
    others = alarmed.filter(pl.col("feature") != first["feature"])["feature"].unique().sort().to_list()
    words = _WORDS[first["statistic"]].format(partner=first["partner"])
    beside = f"; also alarmed: {', '.join(others)}" if others else ""
    subject = (
        "Predictions are not what they were"
        if first["feature"] == PREDICTIONS
        else f"{first['feature']} is not what it was"
    )
    return f"{subject} in the sessions before: {words} ({first['statistic']} {_above_level(first)}){beside}."


def _below_level(row: Mapping[str, Any]) -> str:
    """A value without an alarm beside its alarm level, told apart as printed."""
    if row["level"] is None:
        return f"{row['value']:.3g} where nothing it has reached is an alarm"
    found = told_apart(row["value"], row["level"], 3, "g")
    if found is None or found.order >= 0:
        return f"{row['value']:.3g}, at its alarm level of {row['level']:.3g} and not beyond it"
    return f"{found.first} where {found.second} is an alarm"


def _above_level(row: Mapping[str, Any]) -> str:
    """A value with an alarm beside the level that it has reached."""
    if row["level"] is None:
        return f"{row['value']:.3g}, more than any past window reached"
    return f"{row['value']:.3g}, alarm from {row['level']:.3g}"
