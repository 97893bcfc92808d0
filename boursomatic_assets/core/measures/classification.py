"""How good the calls and their probabilities are, each beside what needs no skill.

Everything here works on a panel of judged rows: `symbol`, `session`, `label`, the three probabilities, `vol_20d`,
and a column of calls, which is named by `call`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE, label_mix
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.errors import NoRowsError

# A column of probabilities for each class, in the order of the classes.
PROBABILITIES = tuple(f"probability_{name.lower()}" for name in CLASS_NAMES)
CODES = np.arange(len(CLASS_NAMES))
VOLATILITY = "vol_20d"
DECILES = 10
CALIBRATION_BINS = 10


def classification_report(panel: pl.DataFrame, call: str = "call") -> dict[str, Any]:
    """Precision, recall, F1 and support per class, with their averages.

    Parameters
    ----------
    panel : DataFrame
        With `label` and the calls.
    call : str
        Column of the calls.

    Returns
    -------
    dict
        As `sklearn.metrics.classification_report` gives it; NaN where a class is never called or never occurs.

    Raises
    ------
    NoRowsError
        If there is no row, or one without its label.
    """
    from sklearn.metrics import classification_report as report_of

    require_rows(panel, "a report of classes needs labelled rows")
    labels, calls = _codes(panel["label"]), _codes(panel[call])
    report: dict[str, Any] = report_of(
        labels, calls, labels=CODES, target_names=CLASS_NAMES, output_dict=True, zero_division=np.nan
    )
    return report


def confusion_counts(panel: pl.DataFrame, call: str = "call") -> list[list[int]]:
    """Rows by true class (outer) and called class (inner), both in the order of `CLASS_NAMES`."""
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(_codes(panel["label"]), _codes(panel[call]), labels=CODES)
    return [[int(count) for count in row] for row in matrix]


def majority_class(panel: pl.DataFrame) -> str:
    """The most frequent label; the first in the order of `CLASS_NAMES` among equally frequent ones.

    Raises
    ------
    NoRowsError
        If no row has a label.
    """
    mix = label_mix(panel)
    if not any(mix.values()):
        message = "the most frequent class needs labelled rows; there are none"
        raise NoRowsError(message)
    return max(mix, key=lambda name: mix[name])


def class_shares(panel: pl.DataFrame) -> np.ndarray:
    """Share of each class among the labels, shape (n_classes,): as a forecast for other rows, their prior.

    NaN without a label.
    """
    counts = list(label_mix(panel).values())
    return np.array([ratio(count, sum(counts)) for count in counts])


def accuracy(panel: pl.DataFrame, call: str = "call") -> float:
    """Share of the rows whose call is their label; NaN for no rows."""
    return mean_of(_codes(panel["label"]) == _codes(panel[call]))


def constant_accuracy(panel: pl.DataFrame, name: str) -> float:
    """Share of the rows that one constant call gets right; NaN for no rows."""
    return mean_of(_codes(panel["label"]) == CLASS_NAMES.index(name))


def buy_precision(panel: pl.DataFrame, call: str = "call") -> float:
    """Share of the BUY calls whose label is BUY; NaN without a call."""
    return constant_accuracy(panel.filter(pl.col(call) == "BUY"), "BUY")


def log_loss(panel: pl.DataFrame) -> float:
    """Mean negative logarithm of the probability that was given to what happened, in nats; NaN for no rows.

    Raises
    ------
    NoRowsError
        If a row has no label or no probability.

    Notes
    -----
    scikit-learn's `log_loss`; a probability of 0 counts as the smallest that a float can tell from it.
    """
    from sklearn.metrics import log_loss as loss_of

    if panel.is_empty():
        return math.nan
    return float(loss_of(_codes(panel["label"]), _probabilities(panel), labels=CODES))


def log_loss_of_prior(panel: pl.DataFrame, prior: np.ndarray) -> float:
    """Log loss of giving every row the same probabilities, in nats.

    Parameters
    ----------
    panel : DataFrame
    prior : ndarray of shape (n_classes,)
        For instance `class_shares` of the training set.
    """
    return log_loss(_with_prior(panel, prior))


def brier_score(panel: pl.DataFrame) -> float:
    """Mean over the rows of the squared distance between the probabilities and what happened.

    Returns
    -------
    float
        In [0, 2]; 0 is certainty that is always right. NaN for no rows.

    Notes
    -----
    Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", in its own form: the sum over
    all classes of (p_k - y_k)^2, twice the half that is often quoted for two classes.
    """
    happened = _codes(panel["label"])[:, None] == CODES
    return mean_of(np.sum((_probabilities(panel) - happened) ** 2, axis=1))


def brier_skill(panel: pl.DataFrame, prior: np.ndarray) -> float:
    """Part of the prior's Brier score that the probabilities save: 1 - Brier / Brier of the prior.

    Parameters
    ----------
    panel : DataFrame
    prior : ndarray of shape (n_classes,)
        Probabilities that were known without a model: `class_shares` of the training set.

    Returns
    -------
    float
        At most 1; 0 is no better than the prior, below 0 is worse. NaN where the prior is always right.
    """
    return 1.0 - ratio(brier_score(panel), brier_score(_with_prior(panel, prior)))


def reliability_curve(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> pl.DataFrame:
    """Probability of BUY beside how often BUY came, in bins of equally many rows.

    Parameters
    ----------
    panel : DataFrame
        With `probability_buy` and `label`.
    bins : int
        Number of bins; fewer rows than that make as many bins as rows.

    Returns
    -------
    DataFrame
        `probability` (mean of the bin), `frequency` (share of BUY labels), `rows`; from the lowest bin up.

    Raises
    ------
    NoRowsError
        If a row has no probability or no label.

    Notes
    -----
    Rows of equal probability may fall on both sides of a bin's edge; symbol and session decide which.
    """
    if panel.height:
        require_rows(panel, "a calibration curve needs probabilities and labels", ("probability_buy", "label"))
    ordered = panel.sort("probability_buy", *PANEL_KEY).select(
        bin=pl.int_range(pl.len()) * bins // pl.len(),
        probability="probability_buy",
        frequency=(pl.col("label") == "BUY").cast(pl.Float64),
    )
    return ordered.group_by("bin", maintain_order=True).agg(
        pl.col("probability", "frequency").mean(), rows=pl.len().cast(pl.Int64)
    ).drop("bin")  # fmt: skip


def expected_calibration_error(panel: pl.DataFrame, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between p(BUY) and how often BUY came, over bins of equally many rows.

    Parameters
    ----------
    panel : DataFrame
        With `probability_buy` and `label`.
    bins : int

    Returns
    -------
    float
        In [0, 1]; NaN for no rows. Noise alone gives about sqrt(2 p (1 - p) / (pi x rows per bin)), never 0.

    Notes
    -----
    Equal-mass bins after Nixon et al. (2019), "Measuring Calibration in Deep Learning": bins of equal width leave
    most of them empty where forecasts crowd around the base rate, as they do here.
    """
    curve = reliability_curve(panel, bins)
    distance = (curve["probability"] - curve["frequency"]).abs()
    return ratio(float((distance * curve["rows"]).sum()), float(panel.height))


def volatility_deciles(panel: pl.DataFrame) -> pl.DataFrame:
    """Sort rows into ten groups of equally many by their volatility.

    Parameters
    ----------
    panel : DataFrame
        With `vol_20d`; rows without one are left out.

    Returns
    -------
    DataFrame
        The rows by symbol and session, with `decile` (Int32, 1 for the calmest to 10) and `base_rate`: the share
        of BUY labels among all rows of the decile.
    """
    known = panel.drop_nulls(VOLATILITY).sort(VOLATILITY, *PANEL_KEY)
    # Ranks are whole numbers: equally volatile rows are told apart by symbol and session, so that their order
    # in the panel decides nothing.
    return (
        known.with_columns(decile=(pl.int_range(pl.len()) * DECILES // pl.len() + 1).cast(pl.Int32))
        .with_columns(base_rate=(pl.col("label") == "BUY").mean().over("decile"))
        .sort(PANEL_KEY)
    )


def matched_base_rate(panel: pl.DataFrame, call: str = "call") -> float:
    """BUY base rate of rows as volatile as those called: of each decile of `vol_20d`, weighted as the calls are.

    Parameters
    ----------
    panel : DataFrame
    call : str
        Column of the calls.

    Returns
    -------
    float
        In [0, 1]; NaN without a BUY call among the rows whose volatility is known.

    Notes
    -----
    Volatile instruments cross both thresholds more often. A model that knows only volatility beats the plain
    base rate; it does not beat this one.
    """
    hits = precision_by_decile(panel, call)
    return ratio(float((hits["base_rate"] * hits["calls"]).sum()), float(hits["calls"].sum()))


def matched_lift(panel: pl.DataFrame, call: str = "call") -> float:
    """BUY precision over the base rate of rows as volatile as those called.

    Returns
    -------
    float
        1 is no skill; NaN without a call, or where no row as volatile as the calls is BUY.
    """
    hits = precision_by_decile(panel, call)
    expected = float((hits["base_rate"] * hits["calls"]).sum())
    return ratio(float(hits["hits"].sum()), expected)


def precision_by_decile(panel: pl.DataFrame, call: str = "call") -> pl.DataFrame:
    """BUY calls within each decile of volatility, beside the decile's base rate.

    Parameters
    ----------
    panel : DataFrame
    call : str
        Column of the calls.

    Returns
    -------
    DataFrame
        A row per decile, the calmest first: `decile`, `volatility` (mean `vol_20d`), `calls`, `hits` (calls whose
        label was BUY), `precision` (null without a call) and `base_rate`.
    """
    called = pl.col(call) == "BUY"
    hit = called & (pl.col("label") == "BUY")
    table = volatility_deciles(panel).group_by("decile").agg(
        volatility=pl.col(VOLATILITY).mean(),
        calls=called.sum().cast(pl.Int64),
        hits=hit.sum().cast(pl.Int64),
        base_rate=pl.col("base_rate").first(),
    )  # fmt: skip
    precision = pl.when(pl.col("calls") > 0).then(pl.col("hits") / pl.col("calls"))
    order = ["decile", "volatility", "calls", "hits", "precision", "base_rate"]
    return table.with_columns(precision=precision).sort("decile").select(order)


def matched_hits(panel: pl.DataFrame, call: str = "call") -> pl.DataFrame:
    """BUY calls that were right and how many would have been without skill, per session.

    Parameters
    ----------
    panel : DataFrame
    call : str
        Column of the calls.

    Returns
    -------
    DataFrame
        Every session of the panel in order: `session`, `hits` (BUY calls whose label was BUY), `expected` (sum over
        the BUY calls of their decile's base rate); null where no row's volatility is known. The matched lift is the
        sum of `hits` over that of `expected`.
    """
    called = pl.col(call) == "BUY"
    right = called & (pl.col("label") == "BUY")
    sums = volatility_deciles(panel).group_by("session").agg(
        hits=right.sum().cast(pl.Int64), expected=pl.col("base_rate").filter(called).sum()
    )  # fmt: skip
    sessions = panel.select(pl.col("session").unique().sort())
    return sessions.join(sums, on="session", how="left", maintain_order="left")


def mean_of(values: np.ndarray) -> float:
    """Mean of numbers or of yes and no; NaN for none."""
    return float(np.mean(values)) if len(values) else math.nan


def ratio(part: float, whole: float) -> float:
    """Part over whole; NaN where the whole is nothing."""
    return part / whole if whole else math.nan


def _codes(classes: pl.Series) -> np.ndarray:
    """Places of the classes in `CLASS_NAMES`: numbers compare many times faster than names."""
    if classes.null_count():
        # Compared with each other, what is missing would count as wrong.
        count = classes.null_count()
        message = f"rows to judge need a label and a call; {count} of {len(classes)} have no {classes.name}"
        raise NoRowsError(message)
    return classes.cast(LABEL_TYPE).to_physical().to_numpy()


def _probabilities(panel: pl.DataFrame) -> np.ndarray:
    if panel.height:
        require_rows(panel, "rows to judge need their probabilities", PROBABILITIES)
    return panel.select(PROBABILITIES).to_numpy()


def _with_prior(panel: pl.DataFrame, prior: np.ndarray) -> pl.DataFrame:
    return panel.with_columns(pl.lit(share).alias(name) for name, share in zip(PROBABILITIES, prior, strict=True))
