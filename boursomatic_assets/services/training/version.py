"""What a training made, and the version that is recorded of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.portfolio.book import labels_hold_closes
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.storage.artifacts.snapshots import CLOSES, PANEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.models.training import FittedModel
    from boursomatic_assets.core.registry.gate import GateDecision
    from boursomatic_assets.core.registry.manifest import Manifest
    from boursomatic_assets.storage.postgres.model_table import ModelRow


@dataclass(frozen=True)
class Training:
    """What a training made, and the data it was made of.

    Attributes
    ----------
    classifier, regressor : FittedModel
    importance, predictions : DataFrame
    threshold, metrics : mapping
    labels : DataFrame
        Label panel.
    closes : DataFrame
        Closes that the books of `metrics` were marked by.
    evidence : mapping
        As `require_sound` gives it.
    """

    classifier: FittedModel
    regressor: FittedModel
    importance: pl.DataFrame
    predictions: pl.DataFrame
    threshold: Mapping[str, Any]
    metrics: dict[str, Any]
    labels: pl.DataFrame
    closes: pl.DataFrame
    evidence: Mapping[str, Any]

    def snapshots(self) -> dict[str, pl.DataFrame]:
        """What to keep a snapshot of: the labels, and the closes where the labels do not hold them."""
        own = {} if labels_hold_closes(self.closes, self.labels) else {CLOSES: self.closes}
        return {PANEL: self.labels, **own}

    def files(self, version: str, provenance: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of its bundle, as `build_bundle` lays them out."""
        described = {"version": version, **provenance}
        return build_bundle(self.classifier, self.regressor, self.metrics, self.importance, described, reference)

    def provenance(self) -> dict[str, Any]:
        """What the manifest says of the data."""
        return {
            "training_data": self.evidence,
            "known_until": str(self.labels["session"].max()),
            "threshold": {name: self.threshold[name] for name in ("tau", "reason", "temperature")},
            "universe": self.labels["symbol"].unique().sort().to_list(),
        }


@dataclass(frozen=True)
class RecordedVersion:
    """A version as it was recorded.

    Attributes
    ----------
    row : ModelRow
    manifest : Manifest
        Of its bundle, as it was stored.
    decision : GateDecision
        Of the gate.
    """

    row: ModelRow
    manifest: Manifest
    decision: GateDecision
