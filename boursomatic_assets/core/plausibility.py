"""What figures can be at all, and what such features can honestly reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.metrics import Figures

# Beyond these lies arithmetic that cannot be: a blocking check. Of the kinds in a figure's name the longest counts.
POSSIBLE = {
    "accuracy": (0.0, 1.0),
    "precision_buy": (0.0, 1.0),
    "base_rate": (0.0, 1.0),
    "lift": (0.0, math.inf),
    "buy_calls": (0.0, math.inf),
    "log_loss": (0.0, math.inf),
    "brier_score": (0.0, 2.0),
    "brier_skill": (-math.inf, 1.0),
    "calibration_error": (0.0, 1.0),
    "mae": (0.0, math.inf),
    "rmse": (0.0, math.inf),
    "r2": (-math.inf, 1.0),
    "max_drawdown": (-1.0, 0.0),
    "return": (-1.0, math.inf),
    "turnover": (0.0, 2.0),
    "exposure": (0.0, 1.0),
    "early_exits": (0.0, math.inf),
    "sharpe_ratio": (-math.inf, math.inf),
    "rank_ic": (-1.0, 1.0),
    # Two sessions, at -1 and 1, deviate most.
    "rank_ic_deviation": (0.0, math.sqrt(2) + 1e-12),
    "rank_ic_t": (-math.inf, math.inf),
    "precision_hold": (0.0, 1.0),
    "precision_sell": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "f1": (0.0, 1.0),
    "brier": (0.0, 2.0),
    "ece": (0.0, 1.0),
    "hit_rate": (0.0, 1.0),
    "annual_volatility": (0.0, math.inf),
    "probabilistic_sharpe": (0.0, 1.0),
    "deflated_sharpe": (0.0, 1.0),
    # Shorts that rise are worth more than the capital that stands for them.
    "long_short_exposure": (0.0, math.inf),
    "long_short_turnover": (0.0, math.inf),
}
# Above these, for the eight features on large caps over 20 sessions, lies a leak or a fault before skill.
# Figures below zero are no reason to suspect an error: they are reported as they are.
PLAUSIBLE_AT_MOST = {
    "val_accuracy_over_majority": 0.05,
    "test_accuracy_over_majority": 0.05,
    "lift_buy_val": 1.4,
    "lift_buy_test": 1.4,
    "matched_lift_buy_val": 1.08,
    "matched_lift_buy_test": 1.08,
    "val_r2_over_prior": 0.005,
    "test_r2_over_prior": 0.005,
}


def impossible_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures outside what arithmetic allows, or infinite; NaN, which is undefined, is allowed."""
    return {name: value for name, value in figures.items() if not _is_possible(name, value)}


def _is_possible(name: str, value: float) -> bool:
    kinds = [kind for kind in POSSIBLE if kind in name]
    if not kinds or math.isnan(value):
        return True
    low, high = POSSIBLE[max(kinds, key=len)]
    return math.isfinite(value) and low <= value <= high


def implausible_figures(figures: Figures, *, threshold_chosen: bool = False) -> dict[str, float]:
    """Figures above `PLAUSIBLE_AT_MOST`: a reason to look for an error before a reason to be glad.

    Parameters
    ----------
    figures : dict of str to float
    threshold_chosen : bool
        Whether a threshold on p(BUY) was chosen on the validation set: the lifts of its calls there are then high
        because it was chosen for that, and say nothing.
    """
    # Of the most probable classes: a low threshold on p(BUY) would hide what the classifier knows.
    over_majority = {
        f"{name}_accuracy_over_majority": figures[f"{name}_most_probable_accuracy"]
        - figures[f"{name}_majority_accuracy"]
        for name in ("val", "test")
    }
    measured = figures | over_majority
    chosen_for = {"lift_buy_val", "matched_lift_buy_val"} if threshold_chosen else set()
    return {
        name: measured[name]
        for name, most in PLAUSIBLE_AT_MOST.items()
        if name not in chosen_for and measured[name] > most
    }
