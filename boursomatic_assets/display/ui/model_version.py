"""Metadata of a recorded version: the gate's decision, the bundle's files, the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.display.ui.metadata import table
from boursomatic_assets.display.ui.promotion import activation, comparison_table, plotted

if TYPE_CHECKING:
    from boursomatic_assets.core.registry.gate import GateDecision
    from boursomatic_assets.services.training.version import RecordedVersion

_SHOWN = ("test_accuracy", "test_majority_accuracy", "test_sharpe_ratio", "test_equal_weight_sharpe_ratio")


def version_metadata(recorded: RecordedVersion) -> dict[str, Any]:
    """Metadata of the asset `model_version`."""
    row, manifest, decision = recorded.row, recorded.manifest, recorded.decision
    return {
        "version": row.version,
        **_gate(row.version, decision),
        "params_hash": row.params_hash,
        "manifest_sha256": row.manifest_sha256,
        "path": dg.MetadataValue.path(row.model_path),
        "horizon": manifest.experiment["horizon"],
        "decision_rule": manifest.threshold.reason,
        **{name: row.metrics[name] for name in _SHOWN if row.metrics[name] is not None},
        "preview": table(
            [
                {"file": name, "bytes": file.bytes, "sha256 begins": file.sha256[:12]}
                for name, file in manifest.files.items()
            ]
        ),
        "experiment": dg.MetadataValue.json(manifest.experiment),
        "code": dg.MetadataValue.json({**manifest.code, **manifest.packages}),
    }


def _gate(version: str, decision: GateDecision) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "promoted": decision.promoted,
        "gate": decision.reason,
        "replaces": _replaced(decision),
        "active_version": decision.active,
        **plotted(decision.figures),
    }
    if not decision.promoted:
        shown["to_activate_it"] = activation(version)
    if decision.sessions:
        shown["gate_figures"] = table(comparison_table(decision.figures))
    return shown


def _replaced(decision: GateDecision) -> str:
    if not decision.promoted:
        return f"nothing: {decision.champion} stays the active one"
    return decision.champion or "nothing: it is the first"
