"""Labels: the class of the return over the horizon after each session, per instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_column, sessions_ahead
from boursomatic_assets.core.market.horizons import newest_sessions, spans_over
from boursomatic_assets.core.market.sessions import off_sessions, panel_sessions
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment

# Alphabetical, which is also scikit-learn's order of string classes.
CLASS_NAMES = ("BUY", "HOLD", "SELL")
LABEL_TYPE = pl.Enum(CLASS_NAMES)
# Outcomes for judging. Rows with a label have the same in `forward_return` and `label_end`.
REALISED = ("realised_return", "realised_on")


def label_panel(features: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """Label each session by the return over the next `horizon` sessions of the same instrument.

    Parameters
    ----------
    features : DataFrame
        Feature panel.
    closes : DataFrame
        Panel with `close`, and with `exchange` where it is known: the horizon then counts that exchange's sessions.
        Otherwise, or without a calendar, it counts the instrument's own bars.
    experiment : Experiment

    Returns
    -------
    DataFrame
        A row per session with a close and features, except for the benchmark: `symbol`, `session`, `close`, the
        experiment's inputs, `forward_return` (fraction), `label_end` (the session `horizon` sessions later),
        `label`, `realised_return` (fraction) and `realised_on` (the session in which the horizon ended). The last
        five are null while the horizon has not passed. A row on a day that is no session has no realised return:
        see `usable_rows`.

    Raises
    ------
    NotEnoughHistoryError
        If no row can be labelled.

    Notes
    -----
    Without a bar in the session in which the horizon ends, the last close before it counts. A row whose horizon
    ends after the instrument's last bar, or that was halted over the whole horizon, has no label and nothing is
    learned from it. It is judged all the same: its realised return is that of a position closed at the last price,
    as `spans_over` finds it.
    """
    require_panel(features, table_columns(experiment.features))
    require_panel(closes, ["close"])
    outcomes = _outcomes(closes, experiment.horizon).with_columns(
        forward_return=pl.col("close_ahead") / pl.col("close") - 1
    )
    label = label_of(pl.col("forward_return"), pl.lit(experiment.buy_threshold), pl.lit(experiment.sell_threshold))
    outcomes = outcomes.with_columns(label=label)
    outcomes = _with_realised(outcomes, closes, experiment.horizon)
    order = [*PANEL_KEY, "close", *experiment.features, "forward_return", "label_end", "label", *REALISED]
    not_learned = pl.lit(experiment.benchmark, pl.String)
    learned = features.filter(pl.col("symbol").ne_missing(not_learned))
    joined = with_derived_inputs(learned.join(outcomes, on=PANEL_KEY, how="inner"), experiment.features)
    panel = joined.select(order).sort(PANEL_KEY)
    if panel["label"].null_count() == panel.height:
        message = (
            f"labels need sessions with features and {experiment.horizon} more sessions after them; of "
            f"{closes.height} bars none has both.\nIngest more history: boursomatic materialize --select "
            "price_bars, read more of it: --lookback-days, or shorten the horizon"
        )
        raise NotEnoughHistoryError(message)
    return panel


def _outcomes(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Close and session one horizon ahead, `close_ahead` and `label_end`; null where it has not passed."""
    by_bars = closes.with_columns(
        close_ahead=pl.col("close").shift(-horizon).over("symbol"),
        label_end=pl.col("session").shift(-horizon).over("symbol"),
    )
    if "exchange" not in closes.columns:
        return by_bars
    covered = pl.col("session") >= FIRST_SESSION
    placed = by_bars.with_columns(calendar=pl.when(covered).then(calendar_column()))
    pieces = [placed.filter(pl.col("calendar").is_null())]
    for calendar in placed["calendar"].drop_nulls().unique().sort().to_list():
        own = placed.filter(pl.col("calendar") == calendar).drop("close_ahead", "label_end")
        pieces.append(_ahead_on_calendar(own, calendar, horizon).select(placed.columns))
    return pl.concat(pieces).sort(PANEL_KEY)


def _ahead_on_calendar(closes: pl.DataFrame, calendar: str, horizon: int) -> pl.DataFrame:
    ends = closes.with_columns(label_end=sessions_ahead(closes["session"], calendar, horizon))
    reached = ends.join_asof(
        closes.select("symbol", label_end="session", at="session", close_ahead="close"),
        on="label_end",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    passed = (pl.col("label_end") <= pl.col("session").max().over("symbol")) & (pl.col("at") > pl.col("session"))
    return reached.with_columns(pl.when(passed).then(pl.col("label_end", "close_ahead")))


def _with_realised(outcomes: pl.DataFrame, closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Add the realised return of every row on a session whose horizon is over, with or without a label."""
    placed = closes if "exchange" in closes.columns else closes.with_columns(exchange=pl.lit(None, pl.String))
    sessions, newest = panel_sessions(placed), newest_sessions(placed.select("exchange", last="session"))
    unlabelled = outcomes.filter(pl.col("label").is_null()).select(PANEL_KEY)
    calls = unlabelled.join(placed.select("exchange", *PANEL_KEY), on=PANEL_KEY).with_columns(horizon_days=horizon)
    over = spans_over(calls, placed, newest, sessions).select(*PANEL_KEY, "realised_return", realised_on="end")
    stray = off_sessions(placed).select(*PANEL_KEY, stray=pl.lit(value=True))
    joined = outcomes.join(over, on=PANEL_KEY, how="left", maintain_order="left").join(
        stray, on=PANEL_KEY, how="left", maintain_order="left"
    )
    return joined.with_columns(
        pl.when(pl.col("stray").is_null()).then(pl.coalesce(label, name)).alias(name)
        for label, name in zip(("forward_return", "label_end"), REALISED, strict=True)
    )


def label_of(forward_return: pl.Expr, buy_threshold: pl.Expr, sell_threshold: pl.Expr) -> pl.Expr:
    """Label of a return by two thresholds, all fractions; null for null."""
    return (
        pl.when(forward_return >= buy_threshold)
        .then(pl.lit("BUY"))
        .when(forward_return <= sell_threshold)
        .then(pl.lit("SELL"))
        .when(forward_return.is_not_null())
        .then(pl.lit("HOLD"))
        .cast(LABEL_TYPE)
    )


def labelled_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """Rows with a label."""
    return labels.filter(pl.col("label").is_not_null())


def usable_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """Rows to train on: with a label, on a session. Off sessions there is a label but no realised return."""
    rows = labelled_rows(labels)
    return rows.drop_nulls("realised_return") if "realised_return" in labels.columns else rows


def realised_rows(labels: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """Rows to judge: all whose horizon has passed, also those whose instrument ended early.

    Returns the panel without `REALISED`, with `ended_early`. Where that is true, `forward_return`, `label_end` and
    `label` are the realised ones. An older panel without `REALISED` gives its labelled rows.
    """
    if not set(REALISED) <= set(labels.columns):
        return labelled_rows(labels).with_columns(ended_early=pl.lit(value=False))
    gain, known_on = (pl.col(name) for name in REALISED)
    early = pl.col("label").is_null()
    label = label_of(gain, pl.lit(experiment.buy_threshold), pl.lit(experiment.sell_threshold))
    rows = labels.filter(gain.is_not_null()).with_columns(
        ended_early=early,
        forward_return=pl.when(early).then(gain).otherwise("forward_return"),
        label_end=pl.when(early).then(known_on).otherwise("label_end"),
        label=pl.when(early).then(label).otherwise("label"),
    )
    return rows.drop(REALISED)


def closed_early(judged: pl.DataFrame) -> dict[str, Any]:
    """Count judged rows closed at their last price, with their `symbols`; None for older rows that do not say."""
    if "ended_early" not in judged.columns:
        return {"rows": None, "symbols": None}
    early = judged.filter("ended_early")
    return {"rows": early.height, "symbols": early["symbol"].unique().sort().to_list()}


def unlabelled_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """Rows without a label, most of them the newest, whose horizon has not passed."""
    return labels.filter(pl.col("label").is_null())


def label_mix(panel: pl.DataFrame) -> dict[str, int]:
    """Count labelled rows by class, in the order of `CLASS_NAMES`."""
    counts = dict(panel.drop_nulls("label").group_by(pl.col("label").cast(pl.String)).len().iter_rows())
    return {name: counts.get(name, 0) for name in CLASS_NAMES}
