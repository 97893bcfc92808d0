"""Who contends to be the active version: scored on the same rows, of sessions that neither has learned from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import labelled_rows
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.calibration import calibrate, row_log_loss
from boursomatic_assets.core.measures.classification import PROBABILITIES, VOLATILITY
from boursomatic_assets.core.models.predictions import predict_rows
from boursomatic_assets.core.models.threshold import with_calls
from boursomatic_assets.core.registry.serving import Serving
from boursomatic_assets.errors import ModelMismatchError

if TYPE_CHECKING:
    from boursomatic_assets.core.registry.bundle import Bundle

LOSS = "loss"


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
    calibrated = predicted.with_columns(map(pl.Series, PROBABILITIES, shown.T))
    # Both are matched by the same volatility, whether or not the version reads it.
    called = with_calls(predicted, serving.tau).with_columns(ordered[VOLATILITY])
    return called.with_columns(calibrated.select(row_log_loss().alias(LOSS)).to_series())
