"""The experiment: every number that shapes a model, in one frozen, hashable description.

Labels, purge, annualisation and metrics all read the same horizon from here. Each stored asset carries the
fingerprint of the part that shaped it (`Experiment.part_for`).
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, INPUT_NAMES
from boursomatic_assets.errors import ConfigurationError

# -0.0 becomes 0.0, so that equal numbers have equal hashes.
_Number = Annotated[float, AfterValidator(lambda number: number + 0.0)]


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BoosterParameters(_Description):
    """Settings of one LightGBM model, under the scikit-learn API's names."""

    n_estimators: int = Field(100, ge=1, description="Boosting rounds.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Shrinkage of each tree.")
    max_depth: int = Field(5, ge=-1, description="Deepest level of a tree; -1 for no limit.")
    num_leaves: int = Field(31, ge=2, le=131_072, description="Most leaves of a tree.")
    min_child_samples: int = Field(20, ge=1, description="Fewest rows in a leaf.")
    subsample: float = Field(0.8, gt=0, le=1, description="Share of the rows drawn for a tree.")
    subsample_freq: int = Field(1, ge=1, description="Trees per draw of rows; at 0 LightGBM ignores subsample.")
    colsample_bytree: float = Field(0.8, gt=0, le=1, description="Share of the features drawn for a tree.")


class WalkForward(_Description):
    """Repeated training through time, for the record of skill."""

    folds: int = Field(8, ge=1, le=99, description="Consecutive spans of sessions that are predicted.")
    window: str = Field(
        "expanding",
        pattern="^(expanding|rolling)$",
        description="Train on all sessions before a fold (expanding), or on as many as before the first (rolling).",
    )
    history_fraction: float = Field(
        0.4, gt=0, lt=1, description="Share of the labelled sessions before the first fold: its least history."
    )


PROFILE_NAMES = ("conservative", "moderate", "aggressive")


class Profile(_Description):
    """What an investor type needs before a call, and its distances of stop and target."""

    buy_probability: float = Field(0.40, gt=0, le=1, description="BUY needs at least this calibrated p(BUY).")
    sell_probability: float = Field(0.40, gt=0, le=1, description="SELL needs at least this calibrated p(SELL).")
    max_volatility: float = Field(0.03, gt=0, description="BUY only up to this vol_20d, a fraction per session.")
    stop_atr: float = Field(2.5, gt=0, description="Distance of the stop from the last close, in atr_14.")
    target_atr: float = Field(4.0, gt=0, description="Distance of the target from the last close, in atr_14.")


class Profiles(_Description):
    """The three risk profiles, each at least as bold as the one before.

    The probabilities follow from their meaning and were tuned on no outcome: above the one in three of a random
    call; two in five; one in two. Volatilities of 0.02, 0.03 and 0.05 a session are about 32, 48 and 79 % a year.
    Stops lie beyond the range of an ordinary session. Targets lie at least one and a half times as far, within what
    20 sessions of such ranges can reach, about 4.5 of them.
    """

    conservative: Profile = Field(
        Profile(buy_probability=0.50, sell_probability=0.50, max_volatility=0.02, stop_atr=2.0, target_atr=3.0),
        description="Calls only what is likelier than not, and buys only low volatility.",
    )
    moderate: Profile = Field(Profile(), description="Between the other two.")
    aggressive: Profile = Field(
        Profile(buy_probability=0.35, sell_probability=0.35, max_volatility=0.05, stop_atr=3.0, target_atr=4.5),
        description="Calls what is likelier than a random call, and buys high volatility.",
    )

    @model_validator(mode="after")
    def _each_is_bolder_than_the_one_before(self) -> Self:
        for calm, bold in pairwise(PROFILE_NAMES):
            before, after = getattr(self, calm), getattr(self, bold)
            stricter = [
                name
                for name, sign in (("buy_probability", 1), ("sell_probability", 1), ("max_volatility", -1))
                if sign * getattr(after, name) > sign * getattr(before, name)
            ]
            if stricter:
                message = (
                    f"profile {bold} must not be stricter than {calm}, so that what {calm} buys it buys too; "
                    f"it is in: {', '.join(stricter)}"
                )
                raise ValueError(message)
        return self

    def items(self) -> list[tuple[str, Profile]]:
        """Names and profiles, the strictest first."""
        return [(name, getattr(self, name)) for name in PROFILE_NAMES]


class Promotion(_Description):
    """When a new version replaces the active one."""

    mode: str = Field(
        "gate",
        pattern="^(gate|always|never)$",
        description="gate: if it is not worse on the same sessions; always; never: only a person activates it.",
    )
    margin: float = Field(
        0.005, ge=0, description="Log loss, in nats, by which it may at most be worse, with 95 % certainty."
    )


class Experiment(_Description):
    """Complete description of how bars become a judged model. Equal descriptions give equal models."""

    lookback_days: int = Field(
        2000, ge=1, le=100_000, description="Calendar days before the newest bar that are read for training."
    )
    features: tuple[str, ...] = Field(
        DEFAULT_INPUTS,
        min_length=1,
        description="Model inputs, in order. None may be in units of price: natr_14 takes the place of atr_14.",
    )
    horizon: int = Field(20, ge=1, description="Sessions ahead that a label looks.")
    buy_threshold: _Number = Field(0.05, description="BUY at a forward return of at least this fraction.")
    sell_threshold: _Number = Field(-0.02, description="SELL at a forward return of at most this fraction.")
    train_fraction: float = Field(0.70, gt=0, lt=1, description="Share of the sessions to train on.")
    validation_fraction: float = Field(0.15, gt=0, lt=1, description="Share of the sessions to validate on.")
    embargo: int = Field(0, ge=0, description="Sessions left out before each later set, beyond the purge.")
    classifier: BoosterParameters = Field(BoosterParameters(), description="LightGBM for BUY, HOLD, SELL.")
    regressor: BoosterParameters = Field(BoosterParameters(), description="LightGBM for the forward return.")
    seed: int = Field(42, ge=0, description="Seed of both models' row and feature sampling.")
    cost_bps: _Number = Field(10.0, ge=0, description="Trading cost in basis points of each side's turnover.")
    benchmark: str | None = Field(
        None, description="Symbol of an index or fund whose own return stands beside the books; never trained on."
    )
    bootstrap_draws: int = Field(2000, ge=100, le=100_000, description="Draws behind each bootstrap interval.")
    walk_forward: WalkForward = Field(WalkForward(), description="Folds of the record of skill.")
    profiles: Profiles = Field(Profiles(), description="Risk profiles that recommendations are made for.")
    language: str = Field(
        "en", pattern="^(en|fr)$", description="Language of the justification in the table: en or fr."
    )
    promotion: Promotion = Field(Promotion(), description="When a new version takes the active one's place.")

    @model_validator(mode="after")
    def _thresholds_and_fractions_leave_room(self) -> Self:
        if self.sell_threshold >= self.buy_threshold:
            message = "sell_threshold must be below buy_threshold, so that HOLD lies between"
            raise ValueError(message)
        if self.train_fraction + self.validation_fraction >= 1:
            message = "train_fraction + validation_fraction must stay below 1, so that a test set is left"
            raise ValueError(message)
        unknown = [name for name in self.features if name not in INPUT_NAMES]
        if unknown or len(set(self.features)) < len(self.features):
            message = f"features must be distinct names out of {list(INPUT_NAMES)}; unknown: {unknown}"
            raise ValueError(message)
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Validate raw values, as a run configuration or a manifest holds them.

        Raises ConfigurationError, naming each invalid field, its value and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "".join(
                f"\n  {'.'.join(map(str, problem['loc'])) or 'experiment'}: {problem['msg']}"
                f" (found {problem['input']!r})"
                for problem in error.errors()
            )
            message = f"the experiment cannot be used:{problems}"
            raise ConfigurationError(message) from None

    def part_for(self, asset: str) -> dict[str, Any]:
        """Values that shape an asset and everything upstream of it; empty for bars and features."""
        return self.model_dump(mode="json", include=set(_SHAPED_BY.get(asset, ())))

    def fingerprint_for(self, asset: str) -> str:
        """SHA-256, as 64 hexadecimal digits, of the part that shapes an asset."""
        canonical = json.dumps(self.part_for(asset), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def params_hash(self) -> str:
        """Fingerprint of all that shapes a model and its figures.

        Profiles, language and promotion are left out: they only use a model, so that another stop is no other
        trial.
        """
        return self.fingerprint_for("model_version")


_LABELS = ("lookback_days", "features", "horizon", "buy_threshold", "sell_threshold", "benchmark")
_SETS = (*_LABELS, "train_fraction", "validation_fraction", "embargo")
_MODELS = (*_SETS, "classifier", "regressor", "seed")
# The use of a model's probabilities changes nothing that is trained or judged.
_SERVED = ("profiles", "language", "promotion")
_WHOLE = tuple(name for name in Experiment.model_fields if name not in _SERVED)
# Figures of the three sets do not depend on the folds.
_JUDGED = tuple(name for name in _WHOLE if name != "walk_forward")
_SHAPED_BY: dict[str, tuple[str, ...]] = {
    "labels": _LABELS,
    "train_set": _SETS,
    "validation_set": _SETS,
    "test_set": _SETS,
    "classifier": (*_SETS, "classifier", "seed"),
    "regressor": (*_SETS, "regressor", "seed"),
    "feature_importance": _MODELS,
    "predictions": _MODELS,
    "threshold": (*_MODELS, "bootstrap_draws"),
    "baselines": (*_SETS, "classifier", "seed"),
    "metrics": _JUDGED,
    "portfolio": _JUDGED,
    "positions": _JUDGED,
    "trades": _JUDGED,
    "evaluation": _JUDGED,
    "walk_forward": (*_LABELS, "embargo", "classifier", "regressor", "seed", "walk_forward"),
    "walk_forward_summary": _WHOLE,
    "report": _WHOLE,
    "model_version": _WHOLE,
}
