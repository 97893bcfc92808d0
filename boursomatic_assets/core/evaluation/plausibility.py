"""Every bound in one place: what figures can be, what the features can honestly reach, how far prices move."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from boursomatic_assets.core.market.printed import printed, told_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boursomatic_assets.core.evaluation.recorded import RecordedFigure


# Arithmetic bounds, a blocking check. The longest of these keys in a figure's name counts.
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
    # Largest for two sessions, at -1 and 1.
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
    # Shorts that rise may be worth more than the capital.
    "long_short_exposure": (0.0, math.inf),
    "long_short_turnover": (0.0, math.inf),
}
# For the eight features on large caps over 20 sessions, a leak or fault is more likely than skill above these. Low
# figures are no reason to suspect an error.
AT_MOST = {
    "accuracy_over_majority": 0.05,
    "rank_ic": 0.06,
    "lift_buy": 1.4,
    "matched_lift_buy": 1.08,
    "r2_over_prior": 0.005,
    "long_short_sharpe_ratio": 0.7,
}
# Figures of `metrics` also name the set: `lift_buy_val`.
_SET = re.compile("^(val|test)_|_(val|test)$")

# Bounds of prices and books, beyond which a source error is more likely than the market. A close over the close
# before: +318 % (Kodak, 2020-07-29) is the largest known rise; HealthSouth lost 97 % (2003-03-26), Lehman 94 %.
LOWEST_MOVE, HIGHEST_MOVE = 0.25, 4.0
# No listed company of an index is known to have moved further between two closes.
LOWEST_POSSIBLE_MOVE, HIGHEST_POSSIBLE_MOVE = 0.02, 10.0
# Bars within which a suspect move that is undone is a wrong price, whatever its size.
UNDONE_WITHIN = 5
# Undone: back within a factor of two.
UNDONE_TO = 2.0
# Growth of one instrument a year: the largest known are 65 (Taser, 2003-04) and about 50 (GameStop, 2020-21).
INSTRUMENT_GROWTH = 100.0
# Return of a book in one session: large caps in equal weights moved by at most 12 % (October 2008, March 2020).
BOOK_MOVE = 0.25
# Growth of a book a year; shorter books get the bound of a whole year.
BOOK_GROWTH = 4.0
# Returns of large caps over 20 sessions have 0.08 to 0.09; it grows with the root of the horizon.
RMSE, RMSE_HORIZON = 0.5, 20


def growth_bound(yearly: float, years: float) -> float:
    """Plausible growth of wealth over a span: `yearly` compounded; shorter spans get the bound of a year."""
    return float(yearly ** max(1.0, years))


def rmse_bound(horizon: int) -> float:
    """Largest plausible error of forecasts of returns over a horizon, as a fraction."""
    return RMSE * math.sqrt(max(1.0, horizon / RMSE_HORIZON))


def impossible_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures outside what arithmetic allows, or infinite; NaN (undefined) is allowed."""
    return {name: value for name, value in figures.items() if not _is_possible(name, value)}


def _is_possible(name: str, value: float) -> bool:
    kinds = [kind for kind in POSSIBLE if kind in name]
    if not kinds or math.isnan(value):
        return True
    low, high = POSSIBLE[max(kinds, key=len)]
    return math.isfinite(value) and low <= value <= high


def most_plausible(name: str) -> float:
    """The bound of a figure in `AT_MOST`, of any set; infinite for one without a bound."""
    return AT_MOST.get(_SET.sub("", name), math.inf)


def too_good(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures above their bound: a leak or an error is more likely than skill. NaN is never above."""
    return {name: value for name, value in figures.items() if value > most_plausible(name)}


def implausible_figures(figures: Mapping[str, float], *, threshold_chosen: bool = False) -> dict[str, float]:
    """Figures of `metrics` that are too good, with the accuracy over the majority class's.

    Where the threshold was chosen on the validation set, its BUY lifts there are high by that choice and are left
    out.
    """
    # Without the threshold: a low one on p(BUY) would hide a leak.
    over_majority = {
        f"{name}_accuracy_over_majority": figures.get(f"{name}_most_probable_accuracy", math.nan)
        - figures.get(f"{name}_majority_accuracy", math.nan)
        for name in ("val", "test")
    }
    chosen_for = {"lift_buy_val", "matched_lift_buy_val"} if threshold_chosen else set()
    found = too_good({**over_majority, **figures})
    return {name: value for name, value in found.items() if name not in chosen_for}


def why_too_good(figures: Iterable[RecordedFigure]) -> str:
    """Say by how much each figure is above its bound, and whether chance can explain it."""
    return "; ".join(
        _why_too_good(figure, figure.value, most_plausible(figure.name))
        for figure in figures
        if figure.value is not None and too_good({figure.name: figure.value})
    )


def _why_too_good(figure: RecordedFigure, value: float, most: float) -> str:
    found = told_apart(value, most, 3)
    if found is None:
        return f"{figure.title} is not finite"
    low, high = figure.low, figure.high
    said = f"{figure.title} {found.first} {found.words} {found.second}, the most that such features can reach"
    if low is None or high is None:
        return said
    by_chance = "chance alone can do this" if low <= most else "chance does not explain it"
    return f"{said}; its 95 % interval is {printed(low, 3)} to {printed(high, 3)}: {by_chance}"
