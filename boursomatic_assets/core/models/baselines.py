"""What needs no model, or next to none: volatility alone, momentum, and the training set's own averages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.measures.classification import (
    PRIOR,
    VOLATILITY,
    class_shares,
    mean_of,
    probability_columns,
)
from boursomatic_assets.core.models.training import FittedModel, fit_classifier

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Experiment

# Momentum skips the last month, in which returns tend to turn around.
MONTH, YEAR = 21, 252


def fit_volatility_classifier(
    train_set: pl.DataFrame, experiment: Experiment, threads: int = 0, every: int = 1
) -> FittedModel | None:
    """Train the classifier with the same parameters on one feature, `vol_20d`.

    Parameters
    ----------
    train_set : DataFrame
    experiment : Experiment
    threads : int
        0 for all cores. Changes the time taken, never the model.
    every : int
        Train on every so manieth session only: labels of neighbouring sessions overlap, and one feature is learned
        from few rows.

    Returns
    -------
    FittedModel or None
        None where the experiment has no such feature.
    """
    if VOLATILITY not in experiment.features:
        return None
    sessions = train_set["session"].unique().sort().gather_every(every)
    thinned = train_set.filter(pl.col("session").is_in(sessions.implode()))
    return fit_classifier(thinned, experiment.model_copy(update={"features": (VOLATILITY,)}), threads)


def momentum(closes: pl.DataFrame) -> pl.DataFrame:
    """12-1 momentum of each session: the return from 252 to 21 bars before it, per symbol.

    Parameters
    ----------
    closes : DataFrame
        Panel with `close`.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `momentum_12_1` (fraction); null where the history is too short.

    Notes
    -----
    Jegadeesh and Titman (1993), Journal of Finance 48; the skipped month after Jegadeesh (1990).
    """
    past = pl.col("close").shift(MONTH) / pl.col("close").shift(YEAR) - 1
    return closes.select("symbol", "session", momentum_12_1=past.over("symbol"))


def baseline_columns(
    rows: pl.DataFrame, train_set: pl.DataFrame, volatility: FittedModel | None, closes: pl.DataFrame
) -> pl.DataFrame:
    """What the baselines say of some rows.

    Parameters
    ----------
    rows : DataFrame
        Panel of the rows to judge, with `vol_20d` where `volatility` is given.
    train_set : DataFrame
        Its class frequencies and mean return are the prior.
    volatility : FittedModel or None
        As `fit_volatility_classifier` gives it.
    closes : DataFrame
        Panel with `close` that covers the rows and the year before them.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `volatility_probability_buy`, `..._hold`, `..._sell` (null without the model),
        `momentum_12_1`, `prior_probability_buy`, `..._hold`, `..._sell` and `prior_return`.
    """
    probabilities = None if volatility is None else volatility.predict(rows)
    by_volatility = {
        name: pl.lit(None, dtype=pl.Float64) if probabilities is None else pl.Series(probabilities[:, number])
        for number, name in enumerate(probability_columns("volatility_probability"))
    }
    past = momentum(closes)
    return (
        rows.select("symbol", "session")
        .with_columns(**by_volatility)
        .join(past, on=["symbol", "session"], how="left", maintain_order="left")
        .with_columns(**prior_columns(train_set))
    )


def prior_columns(train_set: pl.DataFrame) -> dict[str, pl.Expr]:
    """What was known without a model: the training set's class shares and mean return, the same for every row."""
    shares = zip(probability_columns(PRIOR), class_shares(train_set).values(), strict=True)
    known_mean = mean_of(train_set["forward_return"].to_numpy())
    return {**{name: pl.lit(share) for name, share in shares}, "prior_return": pl.lit(known_mean)}
