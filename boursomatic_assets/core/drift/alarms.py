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
    """Consecutive windows with an alarm.

    Attributes
    ----------
    first, last : date
        Sessions with which the first and the last of its windows end.
    windows : int
    """

    first: date
    last: date
    windows: int


def episodes(scan: pl.DataFrame) -> list[Episode]:
    """Put consecutive alarmed windows of `scan_drift` together."""
    runs = scan.with_columns(run=pl.col("alarmed").rle_id()).filter("alarmed")
    found = runs.group_by("run", maintain_order=True).agg(
        first=pl.col("session").first(), last=pl.col("session").last(), windows=pl.len()
    )
    return [Episode(**row) for row in found.drop("run").iter_rows(named=True)]


def newest_alarm(scan: pl.DataFrame) -> Episode | None:
    """The newest event that raised alarms; None where nothing did.

    Parameters
    ----------
    scan : DataFrame
        As `scan_drift` gives it.

    Notes
    -----
    Windows less than five sessions apart share sessions: their alarms are one event, however often the statistic
    falls below its level in between.
    """
    places = np.flatnonzero(scan["alarmed"].to_numpy())
    if not len(places):
        return None
    begins = np.flatnonzero(np.diff(places) >= WINDOW) + 1
    event = places[begins[-1] if len(begins) else 0 :]
    return Episode(scan["session"][int(event[0])], scan["session"][int(event[-1])], len(event))


def words_of(alarm: Episode, scan: pl.DataFrame, drift: pl.DataFrame) -> str:
    """Say in one sentence what raised an alarm, also when it is over.

    Parameters
    ----------
    alarm : Episode
        As `newest_alarm` gives it.
    scan, drift : DataFrame
        As `scan_drift` and `detect_drift` give them of the same rows.
    """
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
    """Say in one sentence why there is an alarm, or that there is none.

    Parameters
    ----------
    drift : DataFrame
        As `detect_drift` gives it.
    """
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
    """A value without an alarm beside the level that is one, told apart as printed."""
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
