"""The record of a training: a bundle that anyone can verify, snapshots of its data, and its row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.drift.reference import build_reference
from boursomatic_assets.core.portfolio.book import labels_hold_closes
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.core.registry.contenders import last_label_end
from boursomatic_assets.services.training.promotion import decide_and_record
from boursomatic_assets.storage.artifacts.bundles import code_revision, open_bundle, package_versions, save_bundle
from boursomatic_assets.storage.artifacts.files import remove_folder
from boursomatic_assets.storage.artifacts.snapshots import CLOSES, PANEL, keep_snapshot, save_snapshot
from boursomatic_assets.storage.postgres.model_table import ModelRow
from boursomatic_assets.storage.postgres.trials_table import closes_version, name_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from upath import UPath

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.models.training import FittedModel
    from boursomatic_assets.core.registry.gate import Decision
    from boursomatic_assets.storage.postgres.database import Database


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


@dataclass(frozen=True)
class RecordedVersion:
    """A version as it was recorded.

    Attributes
    ----------
    row : ModelRow
    manifest : dict
        Of its bundle, as it was stored.
    decision : Decision
        Of the gate.
    """

    row: ModelRow
    manifest: dict[str, Any]
    decision: Decision


def record_training(
    database: Database, artifacts: UPath, training: Training, experiment: Experiment, run_id: str
) -> RecordedVersion:
    """Store the bundle of a training, hold it against the active version, and record it.

    Where anything fails before the row is written, no bundle stays behind.
    """
    trained_at = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    labels = training.labels
    split = split_panel(labels, experiment)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, experiment)
    panels = _panels(training)
    snapshots = {name: save_snapshot(artifacts, panel) for name, panel in panels.items()}
    provenance = {
        **_provenance(training, experiment, run_id),
        "trained_at": f"{trained_at.isoformat()}Z",
        "learned_until": str(last_label_end(split.train, judged["validation"])),
        **{name: snapshot.to_json() for name, snapshot in snapshots.items()},
    }
    reference = build_reference(split.train, training.predictions, experiment)
    version, folder, digest = save_bundle(
        artifacts,
        trained_at,
        lambda version: build_bundle(
            training.classifier, training.regressor, training.metrics, training.importance,
            {"version": version, **provenance}, reference,
        ),
    )  # fmt: skip
    row = ModelRow(version, trained_at, experiment.params_hash, training.metrics, str(folder), digest)

    def keep_snapshots() -> None:
        # Pruning may have removed them before a bundle named them; from here on it cannot.
        for name, snapshot in snapshots.items():
            keep_snapshot(artifacts, snapshot, panels[name])

    try:
        decision = decide_and_record(
            database, row, judged["test"], labels, experiment, who=f"run {run_id}", beforehand=keep_snapshots
        )
    except BaseException:
        remove_folder(folder)
        raise
    name_version(database, experiment.params_hash, closes_version(labels), version)
    manifest = open_bundle(row.model_path, digest).manifest
    return RecordedVersion(replace(row, is_active=decision.promoted, gate=decision.to_json()), manifest, decision)


def _panels(training: Training) -> dict[str, pl.DataFrame]:
    """What to keep a snapshot of: the labels, and the closes where the labels do not hold them."""
    own = {} if labels_hold_closes(training.closes, training.labels) else {CLOSES: training.closes}
    return {PANEL: training.labels, **own}


def _provenance(training: Training, experiment: Experiment, run_id: str) -> dict[str, Any]:
    """What the manifest says of the data, the experiment and the code."""
    return {
        "experiment": experiment.model_dump(mode="json"),
        "params_hash": experiment.params_hash,
        "training_data": training.evidence,
        "known_until": str(training.labels["session"].max()),
        "threshold": {name: training.threshold[name] for name in ("tau", "reason", "temperature")},
        "universe": training.labels["symbol"].unique().sort().to_list(),
        "code": code_revision(),
        "packages": package_versions(),
        "run_id": run_id,
    }
