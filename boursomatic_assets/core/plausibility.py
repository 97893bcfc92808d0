"""What figures can be at all, and what such features can honestly reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boursomatic_assets.core.metrics import Figures

# Beyond these lies arithmetic that cannot be: a blocking check.
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


def impossible_figures(figures: Figures) -> dict[str, float]:
    """Figures outside what arithmetic allows, or infinite; NaN, which is undefined, is allowed."""
    return {
        name: value
        for name, value in figures.items()
        for kind, (low, high) in POSSIBLE.items()
        if kind in name and not math.isnan(value) and (math.isinf(value) or not low <= value <= high)
    }


def implausible_figures(figures: Figures) -> dict[str, float]:
    """Figures above `PLAUSIBLE_AT_MOST`: a reason to look for an error before a reason to be glad."""
    # Of the most probable classes: a low threshold on p(BUY) would hide what the classifier knows.
    over_majority = {
        f"{name}_accuracy_over_majority": figures[f"{name}_most_probable_accuracy"]
        - figures[f"{name}_majority_accuracy"]
        for name in ("val", "test")
    }
    measured = figures | over_majority
    return {name: measured[name] for name, most in PLAUSIBLE_AT_MOST.items() if measured[name] > most}
