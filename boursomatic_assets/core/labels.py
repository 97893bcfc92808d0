"""Labels: what the price did over the horizon after each session, per instrument."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

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
        Panel with `close`; its sessions are the ones the horizon counts.
    experiment : Experiment

    Returns
    -------
    DataFrame
        A row per session that has both a close and a row of features: `symbol`, `session`, `close`, the
        experiment's features, `forward_return` (fraction), `label_end` (session of bar t + horizon) and
        `label`. The newest rows, whose horizon has not passed, have nulls in the last three: they are to be
        predicted, never trained on.

    Raises
    ------
    NotEnoughHistoryError
        If no row can be labelled.
    """
    require_panel(features, experiment.features)
    require_panel(closes, ["close"])
    ahead = -experiment.horizon
    outcomes = closes.select(
        *PANEL_KEY,
        "close",
        forward_return=pl.col("close").shift(ahead).over("symbol") / pl.col("close") - 1,
        label_end=pl.col("session").shift(ahead).over("symbol"),
    ).with_columns(label=_label(pl.col("forward_return"), experiment))
    order = [*PANEL_KEY, "close", *experiment.features, "forward_return", "label_end", "label"]
    panel = features.join(outcomes, on=PANEL_KEY, how="inner").select(order).sort(PANEL_KEY)
    if panel["label"].null_count() == panel.height:
        message = (
            f"labels need sessions with features and {experiment.horizon} more sessions after them; of "
            f"{closes.height} bars none has both.\nIngest more history: boursomatic materialize --select "
            "price_bars, read more of it: --lookback-days, or shorten the horizon"
        )
        raise NotEnoughHistoryError(message)
    return panel


def _label(forward_return: pl.Expr, experiment: Experiment) -> pl.Expr:
    return (
        pl.when(forward_return >= experiment.buy_threshold)
        .then(pl.lit("BUY"))
        .when(forward_return <= experiment.sell_threshold)
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
