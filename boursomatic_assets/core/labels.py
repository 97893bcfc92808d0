"""Labels: what the price did over the horizon after each session, per instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.calendars import FIRST_SESSION, calendar_column, sessions_ahead
from boursomatic_assets.core.features import table_columns, with_derived_inputs
from boursomatic_assets.core.market_data import PANEL_KEY, require_panel
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from boursomatic_assets.core.experiment import Experiment

# Alphabetical, which is also scikit-learn's order of string classes.
CLASS_NAMES = ("BUY", "HOLD", "SELL")
LABEL_TYPE = pl.Enum(CLASS_NAMES)


def label_panel(features: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """Label each session by the return over the next `horizon` sessions of the same instrument.

    Parameters
    ----------
    features : DataFrame
        Feature panel.
    closes : DataFrame
        Panel with `close`, and with `exchange` where it is known: the horizon then counts the sessions of that
        exchange. Without it, or for an exchange without a calendar, it counts the instrument's own bars.
    experiment : Experiment

    Returns
    -------
    DataFrame
        A row per session that has both a close and a row of features: `symbol`, `session`, `close`, the
        experiment's inputs, `forward_return` (fraction), `label_end` (the session `horizon` sessions later)
        and `label`. The newest rows, whose horizon has not passed, have nulls in the last three: they are to be
        predicted, never trained on. The experiment's benchmark has no rows: it is what others are compared with.

    Raises
    ------
    NotEnoughHistoryError
        If no row can be labelled.

    Notes
    -----
    Where an instrument has no bar in the session in which its horizon ends, the last close before it counts, as
    it does for whoever holds the instrument. After an instrument's last bar there is nothing to count.
    """
    require_panel(features, table_columns(experiment.features))
    require_panel(closes, ["close"])
    outcomes = _outcomes(closes, experiment.horizon).with_columns(
        forward_return=pl.col("close_ahead") / pl.col("close") - 1
    )
    label = label_of(pl.col("forward_return"), pl.lit(experiment.buy_threshold), pl.lit(experiment.sell_threshold))
    outcomes = outcomes.with_columns(label=label)
    order = [*PANEL_KEY, "close", *experiment.features, "forward_return", "label_end", "label"]
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
    """Close and session a horizon ahead: `close_ahead` and `label_end`, null where it has not passed."""
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
        closes.select("symbol", label_end="session", found="session", close_ahead="close"),
        on="label_end",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    passed = (pl.col("label_end") <= pl.col("session").max().over("symbol")) & (pl.col("found") > pl.col("session"))
    return reached.with_columns(pl.when(passed).then(pl.col("label_end", "close_ahead")))


def label_of(forward_return: pl.Expr, buy_threshold: pl.Expr, sell_threshold: pl.Expr) -> pl.Expr:
    """The label that a return deserves by two thresholds, all fractions; null for none."""
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
    """Rows whose horizon has passed: the only ones to train and judge on."""
    return labels.filter(pl.col("label").is_not_null())


def unlabelled_rows(labels: pl.DataFrame) -> pl.DataFrame:
    """Newest rows, whose horizon has not passed: the ones to predict."""
    return labels.filter(pl.col("label").is_null())


def label_mix(panel: pl.DataFrame) -> dict[str, int]:
    """Count rows by class, in the order of `CLASS_NAMES`; unlabelled rows are not counted."""
    counts = dict(panel.drop_nulls("label").group_by(pl.col("label").cast(pl.String)).len().iter_rows())
    return {name: counts.get(name, 0) for name in CLASS_NAMES}
