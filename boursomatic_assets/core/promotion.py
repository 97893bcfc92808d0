"""The promotion gate: a new version takes the active one's place unless it is worse, or too little is known of it.

Challenger and champion are asked about the same rows, of sessions that neither has learned from, and compared
session by session. What both find hard, such as a wild month, then hides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.calibration import SMALLEST, calibrate
from boursomatic_assets.core.classification import PROBABILITIES, VOLATILITY, matched_hits, ratio
from boursomatic_assets.core.features import is_warmed_up
from boursomatic_assets.core.figures import finite
from boursomatic_assets.core.inference import bootstrap_weights, diebold_mariano, upper_bound
from boursomatic_assets.core.labels import LABEL_TYPE, labelled_rows
from boursomatic_assets.core.market_data import PANEL_KEY
from boursomatic_assets.core.predictions import predict_rows
from boursomatic_assets.core.ranking import rank_ic
from boursomatic_assets.core.serving import Serving
from boursomatic_assets.core.threshold import make_calls
from boursomatic_assets.errors import ModelMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.core.experiment import Experiment
    from boursomatic_assets.core.model_version import Bundle

# Two models whose labels mean something else cannot be scored on the same ones.
FORETOLD = ("horizon", "buy_threshold", "sell_threshold")
# Fewer horizons of sessions say nothing that a bootstrap of horizons could measure.
FEWEST_HORIZONS = 2
PERCENTILES = (0.025, 0.975)
LOSS = "loss"
NO_LIFT = "one of them makes no BUY call here, or vol_20d is unknown"
NO_RANKS = "in no session do both rank three names or more"


@dataclass(frozen=True)
class Contender:
    """A model version that can be scored.

    Attributes
    ----------
    serving : Serving
        The version as it is served: its boosters, its threshold, its temperature.
    learned_until : date
        The session in which the last label ended that it was trained or tuned on.
    """

    serving: Serving
    learned_until: date

    @classmethod
    def of(cls, bundle: Bundle, labels: pl.DataFrame) -> Contender:
        """Make a verified bundle ready to be scored.

        Parameters
        ----------
        bundle : Bundle
        labels : DataFrame
            Label panel of today: it says when labels end, where the manifest does not.

        Raises
        ------
        ModelMismatchError
            If its boosters are not what its manifest says, or it does not say what it learned from.
        ConfigurationError
            If the manifest's experiment cannot be used.
        """
        return cls(Serving.of(bundle), _learned_until(bundle.manifest, labels))

    @property
    def version(self) -> str:
        """Name of the version."""
        return self.serving.version

    @property
    def columns(self) -> list[str]:
        """Columns that rows need for it to be scored: its features, and what lifts are matched by."""
        features = self.serving.experiment.features
        return [*features, *(name for name in (VOLATILITY,) if name not in features)]


def last_label_end(*sets: pl.DataFrame) -> date:
    """The session in which the last label of some sets ended: what a model knows that has learned from them."""
    return max(rows["label_end"].max() for rows in sets)  # type: ignore[type-var, return-value]


def _learned_until(manifest: dict[str, Any], labels: pl.DataFrame) -> date:
    try:
        if "learned_until" in manifest:
            return date.fromisoformat(manifest["learned_until"])
        learned = [manifest["training_data"][name]["last_session"] for name in ("train_set", "validation_set")]
        last = max(map(date.fromisoformat, learned))
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"the manifest of {manifest.get('version')} does not say until when its models have learned: {error}"
        )
        raise ModelMismatchError(message) from error
    # Rather too late than too early: of that session some rows may have been purged, and a panel that begins after
    # it knows only when the labels of its own first session end.
    first = labels["session"].min()
    return last_label_end(labels.filter(pl.col("session") <= max(last, first)))  # type: ignore[type-var]


@dataclass(frozen=True)
class Unscored:
    """An active version that cannot be scored, and why."""

    version: str
    why: str


@dataclass(frozen=True)
class Difference:
    """A figure of both versions on the same rows. NaN stands for what is not defined.

    Attributes
    ----------
    challenger, champion : float
    low, high : float
        95 % interval of the challenger's figure minus the champion's.
    upper_bound : float
        What that difference stays below with 95 % certainty, one-sided; only of the log loss.
    why_undefined : str
        Why there is no difference, where there is none.
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
        """As strict JSON: what is not defined is null."""
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
    """What two versions make of the same rows.

    Attributes
    ----------
    log_loss : Difference
        In nats, of the probabilities that people are shown: the lower the better.
    matched_lift : Difference
        BUY precision over the base rate of equally volatile rows: the higher the better.
    rank_ic : Difference
        Mean over the sessions in which both rank: the higher the better.
    rows, sessions : int
    first_session, last_session : date
    """

    log_loss: Difference
    matched_lift: Difference
    rank_ic: Difference
    rows: int
    sessions: int
    first_session: date
    last_session: date

    def to_json(self) -> dict[str, Any]:
        """As strict JSON."""
        return {
            "rows": self.rows,
            "sessions": self.sessions,
            "first_session": str(self.first_session),
            "last_session": str(self.last_session),
            "log_loss": self.log_loss.to_json(),
            "matched_lift_buy": self.matched_lift.to_json(),
            "rank_ic": self.rank_ic.to_json(),
        }


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the active one, and why.

    Attributes
    ----------
    promoted : bool
    reason : str
        For people.
    figures : dict
        Strict JSON: `mode`, `margin`, and what was compared, where it could be.
    champion : str or None
        The active version that it was held against; None for the first.
    challenger : str
    sessions : int
        Sessions that both were scored on; 0 where they were not.
    """

    promoted: bool
    reason: str
    figures: dict[str, Any]
    champion: str | None
    challenger: str
    sessions: int

    @property
    def active(self) -> str:
        """The version that is active once this is recorded."""
        return self.challenger if self.promoted or self.champion is None else self.champion

    def to_json(self) -> dict[str, Any]:
        """As strict JSON, as the row of the version keeps it."""
        return {
            "promoted": self.promoted,
            "reason": self.reason,
            "champion": self.champion,
            "challenger": self.challenger,
            "sessions": self.sessions,
            "figures": self.figures,
        }


def decide(
    challenger: Contender, champion: Contender | Unscored | None, test_set: pl.DataFrame, experiment: Experiment
) -> Decision:
    """Decide whether a new version becomes the active one.

    Parameters
    ----------
    challenger : Contender
    champion : Contender, Unscored or None
        The active version; None where there is none.
    test_set : DataFrame
        The challenger's test set, with the columns of both contenders.
    experiment : Experiment
        The challenger's: its `promotion` says by which rule.

    Returns
    -------
    Decision
        The first version is promoted whatever the mode: there must be an active one. In mode `gate` so is one that
        cannot be compared with the champion, and the reason says so.
    """
    if champion is None:
        reason = "Promoted: it is the first, and there is no active version that it could be worse than."
        return _decision(challenger.version, None, experiment, None, (True, reason))
    found = _compared(challenger, champion, test_set, experiment)
    comparison = found if isinstance(found, Comparison) else None
    mode, name = experiment.promotion.mode, champion.version
    if mode == "always":
        verdict = True, f"Promoted in place of {name}: promotion.mode is always, whatever the figures."
    elif mode == "never":
        verdict = False, f"Not promoted, {name} stays: promotion.mode is never, whatever the figures."
    elif isinstance(found, str):
        verdict = True, f"Promoted in place of {name}, with which it could not be compared: {found}."
    else:
        verdict = weigh(found, name, experiment.promotion.margin)
    return _decision(challenger.version, name, experiment, comparison, verdict)


def _decision(
    challenger: str,
    champion: str | None,
    experiment: Experiment,
    comparison: Comparison | None,
    verdict: tuple[bool, str],
) -> Decision:
    compared = {} if comparison is None else comparison.to_json()
    return Decision(
        promoted=verdict[0],
        reason=verdict[1],
        figures={**experiment.promotion.model_dump(mode="json"), **compared},
        champion=champion,
        challenger=challenger,
        sessions=0 if comparison is None else comparison.sessions,
    )


def _compared(
    challenger: Contender, champion: Contender | Unscored, test_set: pl.DataFrame, experiment: Experiment
) -> Comparison | str:
    """Compare both, or say why that cannot be done."""
    if isinstance(champion, Unscored):
        return champion.why
    other = [name for name in FORETOLD if getattr(champion.serving.experiment, name) != getattr(experiment, name)]
    if other:
        return f"it foretells something else ({', '.join(other)})"
    rows = common_rows(test_set, challenger, champion)
    sessions, needed = rows["session"].n_unique(), _fewest_sessions(experiment.horizon)
    if sessions < needed:
        return (
            f"only {sessions} sessions of its test window lie after what both have learned from, and {needed} are "
            f"needed ({FEWEST_HORIZONS} horizons)"
        )
    return compare(score(rows, challenger.serving), score(rows, champion.serving), experiment)


def _fewest_sessions(horizon: int) -> int:
    # A test of a mean needs two more values than one looks at.
    return max(FEWEST_HORIZONS * horizon, horizon + 2)


def common_rows(test_set: pl.DataFrame, *contenders: Contender) -> pl.DataFrame:
    """Rows of a test set that none of the contenders was trained or tuned on, and that each can judge.

    Parameters
    ----------
    test_set : DataFrame
        Panel with the columns of all contenders, and outcomes.
    *contenders : Contender

    Returns
    -------
    DataFrame
        Labelled rows of sessions after the last label that any of them has learned from had ended, by symbol and
        session. A version that saw a part of the window is not scored on what it remembers.
    """
    known = max(contender.learned_until for contender in contenders)
    features = {name for contender in contenders for name in contender.serving.experiment.features}
    rows = labelled_rows(test_set).filter(pl.col("session") > known, is_warmed_up(sorted(features)))
    return rows.sort(PANEL_KEY)


def score(rows: pl.DataFrame, serving: Serving) -> pl.DataFrame:
    """Judge rows as a version does.

    Parameters
    ----------
    rows : DataFrame
        Labelled rows with the features of the version, and `vol_20d`.
    serving : Serving

    Returns
    -------
    DataFrame
        What `predict_rows` gives, with `call`, by the version's threshold, and `loss`, in nats, of its calibrated
        probabilities: those that people are shown.
    """
    ordered = rows.sort(PANEL_KEY)
    predicted = predict_rows(ordered, serving.classifier, serving.regressor)
    shown = calibrate(predicted.select(PROBABILITIES).to_numpy(), serving.temperature)
    happened = predicted["label"].cast(LABEL_TYPE).to_physical().to_numpy()
    given = np.maximum(shown[np.arange(len(shown)), happened], SMALLEST)
    # Both are matched by the same volatility, whether or not the version reads it.
    return make_calls(predicted, serving.tau).with_columns(ordered[VOLATILITY], pl.Series(LOSS, -np.log(given)))


def compare(challenger: pl.DataFrame, champion: pl.DataFrame, experiment: Experiment) -> Comparison:
    """Compare two versions on the same rows, session by session.

    Parameters
    ----------
    challenger, champion : DataFrame
        As `score` gives them for the same rows.
    experiment : Experiment
        Its horizon says how far neighbouring sessions overlap, and is the length of the bootstrap's blocks.

    Returns
    -------
    Comparison
        Exchanged, the two give the same differences with the other sign.

    Notes
    -----
    Log loss: Diebold and Mariano's test on the means of the sessions. Lift and rank IC: percentiles of a stationary
    bootstrap that draws the same sessions for both.
    """
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
    # Positive where the challenger loses less: the other way round than a difference of losses.
    tested = diebold_mariano(challenger, champion, horizon, horizon - 1)
    return Difference(
        challenger=float(challenger.mean()),
        champion=float(champion.mean()),
        low=-tested.high,
        high=-tested.low,
        upper_bound=upper_bound(challenger - champion, horizon, horizon - 1),
    )


def _matched_lift(challenger: pl.DataFrame, champion: pl.DataFrame, weights: np.ndarray) -> Difference:
    sums = [matched_hits(scored).select("hits", "expected").to_numpy() for scored in (challenger, champion)]
    values = [ratio(float(hits), float(expected)) for hits, expected in (part.sum(axis=0) for part in sums)]
    drawn = [weights @ part for part in sums]
    with np.errstate(invalid="ignore", divide="ignore"):
        lifts = [part[:, 0] / part[:, 1] for part in drawn]
    low, high = _percentiles(lifts[0] - lifts[1])
    return Difference(values[0], values[1], low, high, why_undefined=NO_LIFT)


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
    """95 % interval over the draws in which there is a difference; NaN where there is none in any."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, PERCENTILES)
    return float(low), float(high)


def weigh(found: Comparison, champion: str, margin: float) -> tuple[bool, str]:
    """The rule of the gate: whether a challenger passes, with the reason for people.

    Parameters
    ----------
    found : Comparison
    champion : str
        Name of the active version.
    margin : float
        Log loss, in nats, by which the challenger may at most be worse, with 95 % certainty.

    Returns
    -------
    tuple of (bool, str)
        It passes if its log loss is not inferior, and neither lift nor rank IC is lower with its whole interval.
        Where one of these two is not defined, nothing is known against the challenger.
    """
    loss = found.log_loss
    faults = _faults(found, margin)
    where = f"on the same {found.sessions} sessions, {found.first_session} to {found.last_session}"
    if faults:
        return False, f"Not promoted, {champion} stays: {where}, {'; '.join(faults)}."
    shown = (
        f"log loss {loss.value:+.4f} nats, with 95 % certainty at most {loss.upper_bound:+.4f}; {margin:g} more is "
        "allowed"
    )
    return True, f"Promoted in place of {champion}: not worse {where} ({shown})."


def _faults(found: Comparison, margin: float) -> Sequence[str]:
    loss, faults = found.log_loss, []
    if not loss.upper_bound <= margin:
        # Most refusals are of this kind: whoever reads it should know that a closer look may be worth it.
        doubt = "" if loss.low > 0 else "; that it is higher at all is not certain"
        faults.append(
            f"its log loss may be {loss.upper_bound:.4f} nats higher (95 %; most likely {loss.value:+.4f}{doubt}), "
            f"and {margin:g} is allowed"
        )
    for name, part in (("BUY lift at equal volatility", found.matched_lift), ("rank IC", found.rank_ic)):
        if part.high < 0:
            faults.append(f"its {name} is lower by {-part.value:.3f} ({-part.high:.3f} to {-part.low:.3f}, 95 %)")
    return faults
