"""A finished training, and the version recorded from it."""

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
    """A finished training; `closes` mark the books of `metrics`, `evidence` comes from `require_sound`."""

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
        """Panels to snapshot: the labels, and the closes where the labels do not hold them."""
        own = {} if labels_hold_closes(self.closes, self.labels) else {CLOSES: self.closes}
        return {PANEL: self.labels, **own}

    def files(self, version: str, provenance: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of its bundle, as `build_bundle` lays them out."""
        described = {"version": version, **provenance}
        return build_bundle(self.classifier, self.regressor, self.metrics, self.importance, described, reference)

    def provenance(self) -> dict[str, Any]:
        """The manifest's entries on the data."""
        return {
            "training_data": self.evidence,
            "known_until": str(self.labels["session"].max()),
            "threshold": {name: self.threshold[name] for name in ("tau", "reason", "temperature")},
            "universe": self.labels["symbol"].unique().sort().to_list(),
        }


@dataclass(frozen=True)
class RecordedVersion:
    """A recorded version: its row, the manifest of its stored bundle, the gate's decision."""

    row: ModelRow
    manifest: Manifest
    decision: GateDecision
