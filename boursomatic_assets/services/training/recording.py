"""Recording of a training: a verifiable bundle, snapshots of its data, and its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.drift.reference import build_reference
from boursomatic_assets.core.registry.contenders import last_label_end
from boursomatic_assets.services.training.promotion import decide_and_record
from boursomatic_assets.services.training.version import RecordedVersion, Training
from boursomatic_assets.storage.artifacts.bundles import code_revision, open_bundle, package_versions, save_bundle
from boursomatic_assets.storage.artifacts.retention import remove_unless_recorded
from boursomatic_assets.storage.artifacts.snapshots import keep_snapshot, save_snapshot
from boursomatic_assets.storage.postgres.model_table import ModelRow, announce_recording
from boursomatic_assets.storage.postgres.trials_table import closes_version, name_version

if TYPE_CHECKING:
    from upath import UPath

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.storage.postgres.database import Database


def record_training(
    database: Database, artifacts: UPath, training: Training, experiment: Experiment, run_id: str
) -> RecordedVersion:
    """Store the bundle of a training, compare it with the active version, and record it.

    On an error before the row is written, the bundle is removed.
    """
    trained_at = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    labels = training.labels
    split = split_panel(labels, experiment)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, experiment)
    panels = training.snapshots()
    snapshots = {name: save_snapshot(artifacts, panel) for name, panel in panels.items()}
    provenance = {
        **training.provenance(),
        "experiment": experiment.model_dump(mode="json"),
        "params_hash": experiment.params_hash,
        "code": code_revision(),
        "packages": package_versions(),
        "run_id": run_id,
        "trained_at": f"{trained_at.isoformat()}Z",
        "learned_until": str(last_label_end(split.train, judged["validation"])),
        **{name: snapshot.to_json() for name, snapshot in snapshots.items()},
    }
    reference = build_reference(split.train, training.predictions, experiment)
    with announce_recording(database):
        version, folder, digest = save_bundle(
            artifacts, trained_at, lambda version: training.files(version, provenance, reference)
        )
        row = ModelRow(version, trained_at, experiment.params_hash, training.metrics, str(folder), digest)

        def keep_parts() -> None:
            # Pruning may have removed snapshots before a bundle named them, and the bundle itself where the
            # connection that announced it was lost; from here on it cannot.
            open_bundle(row.model_path, digest)
            for name, snapshot in snapshots.items():
                keep_snapshot(artifacts, snapshot, panels[name])

        try:
            decision = decide_and_record(
                database, row, judged["test"], labels, experiment, who=f"run {run_id}", beforehand=keep_parts
            )
        except BaseException:
            remove_unless_recorded(database, version, folder)
            raise
    name_version(database, experiment.params_hash, closes_version(labels), version)
    manifest = open_bundle(row.model_path, digest).manifest
    return RecordedVersion(replace(row, is_active=decision.promoted, gate=decision), manifest, decision)
