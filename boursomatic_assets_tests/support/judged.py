"""Judged panels without any skill: what evaluation works on, made without models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.measures.classification import precision_by_decile
from boursomatic_assets_tests.support.strategies import MONDAY, weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

HORIZON = 5
EXPERIMENT = Experiment(horizon=HORIZON, bootstrap_draws=100)
PREFIXES = ("probability", "volatility_probability", "prior_probability")
Odds = tuple[float, float, float]


def judged_panel(symbols: int, sessions: int, seed: int) -> pl.DataFrame:
    """Rows of random labels, calls, probabilities and returns that know nothing of each other.

    Probabilities are parts of a thousand, often equal in a session; the prior is 0.3, 0.45, 0.25.
    """
    random = np.random.default_rng(seed)
    count = symbols * sessions
    returns = np.round(random.normal(0.01, 0.06, count), 4)
    shares = {"volatility_probability": _shares(random, count), "probability": _shares(random, count)}
    shares["prior_probability"] = np.tile([0.3, 0.45, 0.25], (count, 1))
    labels = np.select([returns >= 0.05, returns <= -0.02], ["BUY", "SELL"], "HOLD")
    calls = np.array(CLASS_NAMES)[shares["probability"].argmax(axis=1)]
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03d}" for number in range(symbols)], sessions).tolist(),
            "session": weekdays(sessions) * symbols,
            "label": pl.Series(labels, dtype=LABEL_TYPE),
            "forward_return": returns,
            "predicted_label": pl.Series(calls, dtype=LABEL_TYPE),
            "predicted_return": np.round(random.normal(0.01, 0.02, count), 3),
            "vol_20d": np.round(random.uniform(0.01, 0.05, count), 3),
            "call": pl.Series(calls, dtype=LABEL_TYPE),
            "momentum_12_1": np.round(random.normal(0.1, 0.3, count), 2),
            "prior_return": np.full(count, 0.0125),
            **{
                f"{prefix}_{name.lower()}": shares[prefix][:, place]
                for prefix in PREFIXES
                for place, name in enumerate(CLASS_NAMES)
            },
        }
    )


def _shares(random: np.random.Generator, count: int) -> np.ndarray:
    parts = random.integers(1, 5, (count, 3))
    shares: np.ndarray = parts / parts.sum(axis=1, keepdims=True)
    return shares


def hand_made(labels: Sequence[str], calls: Sequence[str], **columns: Sequence[float | None]) -> pl.DataFrame:
    """One session of named labels and calls; what is not given is the same in each row."""
    count = len(labels)
    third = {f"{prefix}_{name.lower()}": [1 / 3] * count for prefix in PREFIXES for name in CLASS_NAMES}
    usual = dict.fromkeys(("forward_return", "predicted_return", "prior_return", "momentum_12_1"), [0.0] * count)
    return pl.DataFrame(
        {
            "symbol": [f"S{number:03d}" for number in range(count)],
            "session": [MONDAY] * count,
            "label": pl.Series(labels, dtype=LABEL_TYPE),
            "call": pl.Series(calls, dtype=LABEL_TYPE),
            **third,
            **usual,
            "vol_20d": [0.02] * count,
            **columns,
        },
        schema_overrides={"vol_20d": pl.Float64, "momentum_12_1": pl.Float64},
    )


def on_sessions(*panels: pl.DataFrame) -> pl.DataFrame:
    """One-session panels after one another, on weekdays from Monday 2018-01-01 on."""
    days = weekdays(len(panels))
    dated = [panel.with_columns(session=pl.lit(day)) for panel, day in zip(panels, days, strict=True)]
    return pl.concat(dated).sort("symbol", "session")


def matched_base_rate(panel: pl.DataFrame) -> float:
    """BUY base rate of rows as volatile as those called: of each decile, weighted as the calls are."""
    deciles = precision_by_decile(panel)
    expected = float((deciles["base_rate"] * deciles["calls"]).sum())
    return expected / deciles["calls"].sum() if deciles["calls"].sum() else float("nan")


def poor_panels(judged: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Judged rows from which something cannot be measured, by what they lack."""
    session, label, nothing = pl.col("session"), pl.col("label"), pl.lit(None, pl.Float64)

    def called(name: str) -> pl.Expr:
        return pl.lit(name, LABEL_TYPE).alias("call")

    wrong = pl.when(label == "BUY").then(called("SELL")).otherwise(called("BUY"))
    of_volatility = [f"volatility_probability_{name.lower()}" for name in CLASS_NAMES]
    return {
        "no volatility": judged.with_columns(vol_20d=nothing),
        "no BUY call": judged.with_columns(called("SELL")),
        "only BUY calls": judged.with_columns(called("BUY")),
        "no BUY label": judged.filter(label != "BUY"),
        "neither BUY call nor BUY label": judged.filter(label != "BUY").with_columns(called("HOLD")),
        "BUY called and never right": judged.with_columns(wrong),
        "one session": judged.filter(session == session.min()),
        "one session more than the horizon": judged.filter(session.rank("dense") <= HORIZON + 1),
        "one symbol": judged.filter(pl.col("symbol") == "S000"),
        "one row": judged.head(1),
        "no momentum": judged.with_columns(momentum_12_1=nothing),
        "no volatility classifier": judged.with_columns(nothing.alias(name) for name in of_volatility),
        "equal forecasts": judged.with_columns(predicted_return=pl.lit(0.0)),
        "the prior is right": judged.with_columns(forward_return="prior_return"),
    }
