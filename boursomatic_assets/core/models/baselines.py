"""Baselines: a classifier on volatility alone, momentum, and the training set's averages."""

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

# Momentum skips the last month, in which returns tend to reverse.
MONTH, YEAR = 21, 252


def fit_volatility_classifier(
    train_set: pl.DataFrame, experiment: Experiment, threads: int = 0, every: int = 1
) -> FittedModel | None:
    """Train the classifier with the same parameters on one feature, `vol_20d`; None if the experiment lacks it.

    It trains on every `every`-th session: labels of neighbouring sessions overlap, and one feature needs few rows.
    `threads`, 0 for all cores, never changes the model.
    """
    if VOLATILITY not in experiment.features:
        return None
    sessions = train_set["session"].unique().sort().gather_every(every)
    thinned = train_set.filter(pl.col("session").is_in(sessions.implode()))
    return fit_classifier(thinned, experiment.model_copy(update={"features": (VOLATILITY,)}), threads)


def momentum(closes: pl.DataFrame) -> pl.DataFrame:
    """12-1 momentum as `momentum_12_1`: the return from 252 to 21 bars before each session; null without them.

    Jegadeesh and Titman (1993), Journal of Finance 48; the skipped month after Jegadeesh (1990).
    """
    past = pl.col("close").shift(MONTH) / pl.col("close").shift(YEAR) - 1
    return closes.select("symbol", "session", momentum_12_1=past.over("symbol"))


def baseline_columns(
    rows: pl.DataFrame, train_set: pl.DataFrame, volatility: FittedModel | None, closes: pl.DataFrame
) -> pl.DataFrame:
    """Forecasts of the baselines for some rows, in their order.

    `rows` have `vol_20d` where `volatility` is given; the class shares and mean return of `train_set` are the
    prior; `closes` covers the rows and the year before them. Adds to the keys `volatility_probability_buy`,
    `..._hold`, `..._sell` (null without the model), `momentum_12_1`, `prior_probability_buy`, `..._hold`,
    `..._sell` and `prior_return`.
    """
    probabilities = None if volatility is None else volatility.predict(rows)
    by_volatility = {
        name: pl.lit(None, dtype=pl.Float64) if probabilities is None else pl.Series(probabilities[:, number])
        for number, name in enumerate(probability_columns("volatility_probability"))
    }
    return (
        rows.select("symbol", "session")
        .with_columns(**by_volatility)
        .join(momentum(closes), on=["symbol", "session"], how="left", maintain_order="left")
        .with_columns(**prior_columns(train_set))
    )


def prior_columns(train_set: pl.DataFrame) -> dict[str, pl.Expr]:
    """The training set's class shares and mean return, the same for every row."""
    shares = zip(probability_columns(PRIOR), class_shares(train_set).values(), strict=True)
    known_mean = mean_of(train_set["forward_return"].to_numpy())
    return {**{name: pl.lit(share) for name, share in shares}, "prior_return": pl.lit(known_mean)}
