"""Two model versions compared on the same rows, session by session, so that common difficulties cancel out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.market.bars import require_rows
from boursomatic_assets.core.measures.classification import VOLATILITY, matched_hits, matched_lift, ratio
from boursomatic_assets.core.measures.figures import finite
from boursomatic_assets.core.measures.inference import PERCENTILES, diebold_mariano, upper_bound
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.measures.resampling import bootstrap_weights
from boursomatic_assets.core.registry.contenders import LOSS

if TYPE_CHECKING:
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment

NO_LIFT = f"one of them makes no BUY call here, or {VOLATILITY} is unknown"
NO_RANKS = "in no session do both rank three names or more"


@dataclass(frozen=True)
class Difference:
    """A figure of both versions on the same rows; what is undefined is NaN.

    `low` and `high` are the 95 % interval of challenger minus champion. `upper_bound` is its one-sided 95 % bound,
    for the log loss only.
    """

    challenger: float
    champion: float
    low: float
    high: float
    upper_bound: float = math.nan
    why_undefined: str = ""

    @property
    def value(self) -> float:
        """The challenger's figure minus the champion's."""
        return self.challenger - self.champion

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: what is undefined is null."""
        numbers = {
            "challenger": self.challenger,
            "champion": self.champion,
            "difference": self.value,
            "low": self.low,
            "high": self.high,
            "upper_bound": self.upper_bound,
        }
        undefined = None if math.isfinite(self.value) else self.why_undefined
        return {name: finite(number) for name, number in numbers.items()} | {"why_undefined": undefined}


@dataclass(frozen=True)
class Comparison:
    """Log loss in nats (lower is better), BUY lift at equal volatility and mean rank IC of two versions."""

    log_loss: Difference
    matched_lift: Difference
    rank_ic: Difference
    rows: int
    sessions: int
    first_session: date
    last_session: date

    def to_json(self) -> dict[str, Any]:
        """Strict JSON."""
        return {
            "rows": self.rows,
            "sessions": self.sessions,
            "first_session": str(self.first_session),
            "last_session": str(self.last_session),
            "log_loss": self.log_loss.to_json(),
            "matched_lift_buy": self.matched_lift.to_json(),
            "rank_ic": self.rank_ic.to_json(),
        }


def compare(challenger: pl.DataFrame, champion: pl.DataFrame, experiment: Experiment) -> Comparison:
    """Compare two versions on the same rows, both scored by `score`.

    Raises
    ------
    NoRowsError
        If one of the two scored no rows, or a row without a label or a loss.

    Notes
    -----
    Log loss: Diebold and Mariano's test on the means of the sessions. Lift and rank IC: percentiles of a stationary
    bootstrap that draws the same sessions for both, in blocks of the horizon.
    """
    for scored in (challenger, champion):
        require_rows(scored, "a comparison needs scored rows", ("label", LOSS))
    days = challenger["session"].unique().sort()
    block = min(experiment.horizon, len(days))
    weights = bootstrap_weights(len(days), block, experiment.bootstrap_draws, experiment.seed)
    return Comparison(
        log_loss=_log_loss(_losses(challenger), _losses(champion), experiment.horizon),
        matched_lift=_matched_lift(challenger, champion, weights),
        rank_ic=_rank_ic(challenger, champion, days, weights),
        rows=challenger.height,
        sessions=len(days),
        first_session=days[0],
        last_session=days[-1],
    )


def _losses(scored: pl.DataFrame) -> np.ndarray:
    """Mean loss of each session, shape (n_sessions,): names of a session are one observation."""
    return scored.group_by("session").agg(pl.col(LOSS).mean()).sort("session")[LOSS].to_numpy()


def _log_loss(challenger: np.ndarray, champion: np.ndarray, horizon: int) -> Difference:
    # The test is positive where the challenger loses less: its sign is that of minus the difference.
    tested = diebold_mariano(challenger, champion, horizon, horizon - 1)
    return Difference(
        challenger=float(challenger.mean()),
        champion=float(champion.mean()),
        low=-tested.high,
        high=-tested.low,
        upper_bound=upper_bound(challenger - champion, horizon, horizon - 1),
    )


def _matched_lift(challenger: pl.DataFrame, champion: pl.DataFrame, weights: np.ndarray) -> Difference:
    # A session without volatility adds nothing to either sum; without any, the lift is undefined.
    hits = [matched_hits(scored).select("hits", "expected").fill_null(0) for scored in (challenger, champion)]
    sums = [part.to_numpy() for part in hits]
    drawn = [weights @ part for part in sums]
    with np.errstate(invalid="ignore", divide="ignore"):
        lifts = [part[:, 0] / part[:, 1] for part in drawn]
    low, high = _percentiles(lifts[0] - lifts[1])
    return Difference(matched_lift(challenger), matched_lift(champion), low, high, why_undefined=NO_LIFT)


def _rank_ic(challenger: pl.DataFrame, champion: pl.DataFrame, days: pl.Series, weights: np.ndarray) -> Difference:
    ranked = [rank_ic(scored).select("session", "rank_ic") for scored in (challenger, champion)]
    both = pl.DataFrame({"session": days}).join(
        ranked[0].join(ranked[1], on="session", suffix="_of_champion"), on="session", how="left"
    ).sort("session")  # fmt: skip
    known = both["rank_ic"].is_not_null().to_numpy().astype(np.float64)
    sums = both.select("rank_ic", "rank_ic_of_champion").fill_null(0.0).to_numpy()
    values = [ratio(float(side), float(known.sum())) for side in sums.sum(axis=0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ (sums[:, 0] - sums[:, 1])) / (weights @ known)
    low, high = _percentiles(means)
    return Difference(values[0], values[1], low, high, why_undefined=NO_RANKS)


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    """95 % interval over the draws in which the difference is defined; NaN without any."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, PERCENTILES)
    return float(low), float(high)
