"""Measures of calls against labels and base rates; `calibration` measures the probabilities.

Panels hold judged rows: `symbol`, `session`, `label`, probabilities of the three classes, `vol_20d`, and a column
of calls, named by `call`. A forecaster is named by the prefix of its probability columns: `probability` for the
model, `prior_probability` for the class shares of the training set.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE, label_mix
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.errors import NoRowsError

if TYPE_CHECKING:
    from polars._typing import IntoExpr

MODEL, PRIOR = "probability", "prior_probability"


def probability_columns(forecaster: str) -> tuple[str, ...]:
    """Probability columns of a forecaster, in the order of `CLASS_NAMES`."""
    return tuple(f"{forecaster}_{name.lower()}" for name in CLASS_NAMES)


PROBABILITIES = probability_columns(MODEL)
VOLATILITY = "vol_20d"
NO_VOLATILITY = (
    f"{VOLATILITY} is no feature, there is no BUY call, or no BUY label among rows as volatile as the calls"
)
DECILES = 10


def class_figures(panel: pl.DataFrame, call: str = "call") -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class, under scikit-learn's names; NaN for a share of no rows."""
    shares = _shares(panel, call)
    return {name: {kind: float(shares[kind][place]) for kind in shares} for place, name in enumerate(CLASS_NAMES)}


def classification_report(panel: pl.DataFrame, call: str = "call") -> dict[str, Any]:
    """`class_figures` and their averages, as `sklearn.metrics.classification_report` gives them.

    Raises NoRowsError if there is no row, or a row without label or call.
    """
    require_rows(panel, "a report of classes needs labelled rows")
    shares = _shares(panel, call)
    weights = {"macro avg": np.ones(len(CLASS_NAMES)), "weighted avg": shares["support"]}
    averages = {
        name: {kind: _average(values, weight) for kind, values in shares.items()} | {"support": float(panel.height)}
        for name, weight in weights.items()
    }
    return {**class_figures(panel, call), "accuracy": accuracy(panel, call), **averages}


def _shares(panel: pl.DataFrame, call: str) -> dict[str, np.ndarray]:
    counts = np.array(confusion_counts(panel, call), dtype=np.float64)
    hits, called, actual = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    # A share of no rows is 0 / 0.
    with np.errstate(invalid="ignore"):
        shares = {"precision": hits / called, "recall": hits / actual, "f1-score": 2 * hits / (called + actual)}
    return {**shares, "support": actual}


def _average(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of the defined values; the plain mean where all weights are zero."""
    known = ~np.isnan(values)
    weighted = weights[known] if weights[known].any() else None
    return float(np.average(values[known], weights=weighted)) if known.any() else math.nan


def confusion_counts(panel: pl.DataFrame, call: str = "call") -> list[list[int]]:
    """Rows by label (outer) and call (inner), both in the order of `CLASS_NAMES`."""
    width = len(CLASS_NAMES)
    cells = _codes(panel, "label").astype(np.intp) * width + _codes(panel, call)
    counts: list[list[int]] = np.bincount(cells, minlength=width**2).reshape(width, width).tolist()
    return counts


def majority_class(panel: pl.DataFrame) -> str:
    """The most frequent label; of equally frequent ones the first in `CLASS_NAMES`. Without one: NoRowsError."""
    require_rows(panel.drop_nulls("label"), "the most frequent class needs labelled rows")
    mix = label_mix(panel)
    return max(mix, key=lambda name: mix[name])


def class_shares(panel: pl.DataFrame) -> dict[str, float]:
    """Share of each class among the labels; NaN without a label."""
    mix = label_mix(panel)
    return {name: ratio(count, sum(mix.values())) for name, count in mix.items()}


def most_probable(forecaster: str = MODEL) -> pl.Expr:
    """The most probable class of a forecaster; the first of equally probable ones."""
    places = pl.concat_list(probability_columns(forecaster)).list.arg_max()
    return places.replace_strict(dict(enumerate(CLASS_NAMES)), default=None)


def accuracy(panel: pl.DataFrame, call: IntoExpr = "call") -> float:
    """Share of the rows whose call is their label; NaN for no rows."""
    return mean_of(_codes(panel, "label") == _codes(panel, call))


def constant_accuracy(panel: pl.DataFrame, name: str) -> float:
    """Accuracy of calling every row `name`; NaN for no rows."""
    return accuracy(panel, pl.lit(name, LABEL_TYPE))


def buy_precision(panel: pl.DataFrame, call: str = "call") -> float:
    """Share of the BUY calls whose label is BUY; NaN without a call."""
    return class_figures(panel, call)["BUY"]["precision"]


def buy_lift(panel: pl.DataFrame, call: str = "call") -> float:
    """BUY precision over the share of BUY labels; NaN without a call or without such a label."""
    return ratio(buy_precision(panel, call), constant_accuracy(panel, "BUY"))


def volatility_deciles(panel: pl.DataFrame) -> pl.DataFrame:
    """Rows of known volatility with its `decile` (1 is the calmest) and the decile's `base_rate` of BUY labels."""
    known = panel.drop_nulls(VOLATILITY).sort(VOLATILITY, *PANEL_KEY)
    # Symbol and session order equally volatile rows, so that the order of the panel does not matter.
    return (
        known.with_columns(decile=(pl.int_range(pl.len()) * DECILES // pl.len() + 1).cast(pl.Int32))
        .with_columns(base_rate=(pl.col("label") == "BUY").mean().over("decile"))
        .sort(PANEL_KEY)
    )


def matched_lift(panel: pl.DataFrame, call: str = "call") -> float:
    """BUY precision over the base rate of equally volatile rows; 1 without skill.

    NaN without a call, or where the base rate of the called rows is zero. Volatile instruments cross both
    thresholds more often: a model that knows only volatility has a raw lift above 1, but a matched lift of 1.
    """
    hits = precision_by_decile(panel, call)
    expected = float((hits["base_rate"] * hits["calls"]).sum())
    return ratio(float(hits["hits"].sum()), expected)


def precision_by_decile(panel: pl.DataFrame, call: str = "call") -> pl.DataFrame:
    """BUY calls by decile of volatility, the calmest first.

    Columns: `decile`, `volatility` (mean `vol_20d`), `calls`, `hits` (calls with a BUY label), `precision` (null
    without a call) and `base_rate`.
    """
    called = pl.col(call) == "BUY"
    hit = called & (pl.col("label") == "BUY")
    precision = pl.when(pl.col("calls") > 0).then(pl.col("hits") / pl.col("calls"))
    return volatility_deciles(panel).group_by("decile").agg(
        volatility=pl.col(VOLATILITY).mean(),
        calls=called.sum().cast(pl.Int64),
        hits=hit.sum().cast(pl.Int64),
        base_rate=pl.col("base_rate").first(),
    ).sort("decile").select(
        "decile", "volatility", "calls", "hits", precision.alias("precision"), "base_rate"
    )  # fmt: skip


def matched_hits(panel: pl.DataFrame, call: str = "call") -> pl.DataFrame:
    """BUY hits per session, and the hits expected without skill.

    Columns: `session`, `hits` (BUY calls with a BUY label) and `expected` (sum of the base rates of the called
    rows' deciles). Both are null in a session without a row of known volatility. `matched_lift` is the ratio of
    their sums.
    """
    called = pl.col(call) == "BUY"
    right = called & (pl.col("label") == "BUY")
    sums = volatility_deciles(panel).group_by("session").agg(
        hits=right.sum().cast(pl.Int64), expected=pl.col("base_rate").filter(called).sum()
    )  # fmt: skip
    sessions = panel.select(pl.col("session").unique().sort())
    return sessions.join(sums, on="session", how="left", maintain_order="left")


def mean_of(values: np.ndarray) -> float:
    """Mean of numbers or booleans; NaN for none."""
    return float(np.mean(values)) if len(values) else math.nan


def ratio(part: float, whole: float) -> float:
    """Part over whole; NaN where the whole is zero."""
    return part / whole if whole else math.nan


def _codes(panel: pl.DataFrame, column: IntoExpr) -> np.ndarray:
    """Places of a column's classes in `CLASS_NAMES`: numbers compare many times faster than names."""
    classes = panel.select(column).to_series()
    # A comparison with a null would count as wrong.
    if count := classes.null_count():
        message = f"rows to judge need a label and a call; {count} of {len(classes)} have no {classes.name}"
        raise NoRowsError(message)
    return classes.cast(LABEL_TYPE).to_physical().to_numpy()
