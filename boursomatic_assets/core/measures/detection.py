"""Power of a sample of rank ICs: the smallest mean that it could have shown, and the years a small one needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.market.printed import printed
from boursomatic_assets.core.measures.figures import finite
from boursomatic_assets.core.measures.inference import overlap_test
from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR
from boursomatic_assets.core.measures.ranking import RANK_IC_TITLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import polars as pl

ERRORS_TO_SHOW = 2.0
# A plausible skill of price features on large caps.
WANTED_RANK_IC = 0.01


@dataclass(frozen=True)
class Detection:
    """Power of a sample of rank ICs, one per session.

    `error` is the standard error of their mean, robust to overlapping horizons; NaN where it is undefined.
    """

    title: str
    sessions: int
    error: float
    why_undefined: str = ""

    @property
    def smallest(self) -> float:
        """Smallest mean rank IC that this sample could have shown: two standard errors, t = 2."""
        return ERRORS_TO_SHOW * self.error

    @property
    def years(self) -> float:
        """Length of the sample in years of 252 sessions."""
        return self.sessions / SESSIONS_PER_YEAR

    @property
    def years_needed(self) -> float:
        """Years of sessions at which a mean rank IC of 0.01 would reach t = 2.

        The error of a mean over T years falls as 1 / sqrt(T). With error e over T years it is e sqrt(T / N) over N
        years, and t = 0.01 / (e sqrt(T / N)) = 2 gives N = T (2 e / 0.01)^2.
        """
        return self.years * (self.smallest / WANTED_RANK_IC) ** 2

    @property
    def sentence(self) -> str:
        """Smallest detectable mean and years needed, in words."""
        if not math.isfinite(self.error):
            return f"{self.title}: what this sample could have shown is not available ({self.why_undefined})."
        return (
            f"{self.title}: the smallest that {printed(self.years, 1)} years could have shown is "
            f"{printed(self.smallest, 4)} (two standard errors); {WANTED_RANK_IC:g} would need "
            f"{printed(self.years_needed, 1)} years."
        )

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: an undefined number is null, and `why_undefined` says why."""
        return {
            "title": self.title,
            "sessions": self.sessions,
            "years": self.years,
            "standard_error": finite(self.error),
            "smallest": finite(self.smallest),
            "wanted": WANTED_RANK_IC,
            "years_for_wanted": finite(self.years_needed),
            "why_undefined": self.why_undefined or None,
            "sentence": self.sentence,
        }


def detection(title: str, coefficients: np.ndarray, horizon: int) -> Detection:
    """Power of a sample of rank ICs, given in time order as an array of shape (n_sessions,).

    The error is Newey and West's with lag `horizon` - 1. It is undefined for fewer than `horizon` + 2 sessions, and
    for coefficients that do not vary.
    """
    count, fewest = len(coefficients), horizon + 2
    error = overlap_test(coefficients, horizon, horizon - 1).error
    if math.isfinite(error):
        return Detection(title, count, error)
    why = (
        f"{count} sessions have one, and {fewest} are needed"
        if count < fewest
        else "it does not vary between sessions"
    )
    return Detection(title, count, math.nan, why)


def detections(coefficients: Mapping[str, pl.DataFrame], horizon: int) -> dict[str, Detection]:
    """Power of each sample that `rank_ics` gives, by figure name."""
    return {
        name: detection(RANK_IC_TITLES[name], sessions["rank_ic"].to_numpy(), horizon)
        for name, sessions in coefficients.items()
    }
