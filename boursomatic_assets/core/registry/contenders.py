"""Versions that compete to be active, scored on rows from which neither has learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    from datetime import date

    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.core.registry.manifest import Manifest

LOSS = "loss"


@dataclass(frozen=True)
class Contender:
    """A version that can be scored, and the session in which its last training or tuning label ended."""

    serving: Serving
    learned_until: date

    @classmethod
    def of(cls, bundle: Bundle, labels: pl.DataFrame) -> Contender:
        """Prepare a verified bundle for scoring; today's `labels` say when labels end, where the manifest does not.

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
        """Columns that its scoring reads: its features, and the volatility that lifts are matched by."""
        features = self.serving.experiment.features
        return [*features, *(name for name in (VOLATILITY,) if name not in features)]


def last_label_end(*sets: pl.DataFrame) -> date:
    """The session in which the last label of some sets ended."""
    return max(rows["label_end"].max() for rows in sets)  # type: ignore[type-var, return-value]


def _learned_until(manifest: Manifest, labels: pl.DataFrame) -> date:
    if manifest.learned_until is not None:
        return manifest.learned_until
    sets = [manifest.training_data.get(name) for name in ("train_set", "validation_set")]
    learned = [each.last_session for each in sets if each is not None and each.last_session is not None]
    if len(learned) < len(sets):
        message = f"the manifest of {manifest.version} does not say until when its models have learned"
        raise ModelMismatchError(message)
    # Too late is safe, too early is not: rows of that session may have been purged, and a panel that begins later
    # knows the label ends of its own first session only.
    first = labels["session"].min()
    return last_label_end(labels.filter(pl.col("session") <= max(*learned, first)))  # type: ignore[type-var]


@dataclass(frozen=True)
class Unscored:
    """An active version that cannot be scored, and why."""

    version: str
    why: str


def common_rows(test_set: pl.DataFrame, *contenders: Contender) -> pl.DataFrame:
    """Labelled rows of a test set from which no contender has learned, by symbol and session.

    Their sessions lie after the end of the last label that any contender knows, and all features have their
    history.
    """
    known = max(contender.learned_until for contender in contenders)
    features = {name for contender in contenders for name in contender.serving.experiment.features}
    rows = labelled_rows(test_set).filter(pl.col("session") > known, is_warmed_up(sorted(features)))
    return rows.sort(PANEL_KEY)


def score(rows: pl.DataFrame, serving: Serving) -> pl.DataFrame:
    """Predict labelled rows as a version does.

    Adds `call`, by the version's threshold, and `loss`, in nats, of the calibrated probabilities that people are
    shown.
    """
    ordered = rows.sort(PANEL_KEY)
    predicted = predict_rows(ordered, serving.classifier, serving.regressor)
    shown = calibrate(predicted.select(PROBABILITIES).to_numpy(), serving.temperature)
    calibrated = predicted.with_columns(map(pl.Series, PROBABILITIES, shown.T))
    # Lifts are matched by volatility, whether or not the version reads it.
    called = with_calls(predicted, serving.tau).with_columns(ordered[VOLATILITY])
    return called.with_columns(calibrated.select(row_log_loss().alias(LOSS)).to_series())
