"""The models' predictions on the recorded features today, and the origin of their bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, DagsterEventType
from upath import UPath

from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.core.registry.serving import Serving
from boursomatic_assets.core.trace.recomputation import (
    bundle_step,
    code_step,
    prediction_step,
    run_step,
    training_data_step,
)
from boursomatic_assets.core.trace.tree import DIFFERS, GONE, TraceStep
from boursomatic_assets.errors import BoursomaticError, MissingArtifactError
from boursomatic_assets.storage.artifacts.bundles import code_revision, package_versions
from boursomatic_assets.storage.artifacts.files import read_folder
from boursomatic_assets.storage.artifacts.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster import DagsterInstance

    from boursomatic_assets.core.recommendations.evidence import Evidence
    from boursomatic_assets.core.registry.manifest import Manifest
    from boursomatic_assets.core.trace.recomputation import FoundBundle


def traced_prediction(instance: DagsterInstance, row: Mapping[str, Any], evidence: Evidence) -> TraceStep:
    """The models' predictions on the recorded features today, with their bundle."""
    found = bundle_step(row, evidence, _files(row["model_path"]))
    origin = _origin(instance, row, found)
    bundle = replace(found.step, children=(*found.step.children, *origin))
    made = _predicted(row, evidence, found)
    return replace(made, children=(*made.children, bundle))


def _predicted(row: Mapping[str, Any], evidence: Evidence, found: FoundBundle) -> TraceStep:
    if found.bundle is None:
        return TraceStep(
            "prediction", GONE, detail="cannot be made again: the models are not those that were recorded"
        )
    try:
        return prediction_step(row["symbol"], evidence, Serving.of(found.bundle))
    except BoursomaticError as error:
        return TraceStep("prediction", DIFFERS, detail=str(error))


def _files(folder: str) -> dict[str, bytes] | None:
    try:
        return read_folder(UPath(folder)) if folder else None
    except (MissingArtifactError, OSError):
        return None


def _origin(instance: DagsterInstance, row: Mapping[str, Any], found: FoundBundle) -> list[TraceStep]:
    """Run, code and data behind the bundle, if its manifest is the recorded one."""
    manifest = found.manifest
    if manifest is None:
        return []
    said = {"version": row["version"], "manifest_sha256": row["manifest_sha256"]}
    then = {**manifest.code, **manifest.packages}
    return [
        run_step("training run", manifest.run_id, _recorded_run(instance, manifest.run_id, "model_version"), said),
        code_step(then, {**code_revision(), **package_versions()}),
        training_data_step(manifest, _training_data(row["model_path"], manifest)),
    ]


def _training_data(folder: str, manifest: Manifest) -> str | None:
    try:
        # Beside the bundle, even where ARTIFACTS_DIR has changed since.
        path = Snapshot.named_by(manifest).path_in(UPath(folder).parent.parent)
        return sha256(path.read_bytes())
    except (MissingArtifactError, OSError, TypeError):
        return None


def writing_run(instance: DagsterInstance, evidence: Evidence) -> TraceStep:
    """The run that wrote the recommendation, and its code."""
    run_id = evidence.run.get("run_id")
    step = run_step("recommending run", run_id, _recorded_run(instance, run_id, "recommendations"), {})
    return replace(step, children=(*step.children, code_step(evidence.run.get("code") or {}, code_revision())))


def _recorded_run(instance: DagsterInstance, run_id: str | None, asset: str | None) -> dict[str, Any] | None:
    """Status of a run and its metadata for an asset; None if Dagster does not know the run."""
    run = instance.get_run_by_id(run_id) if run_id else None
    if run is None:
        return None
    events = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    made = [entry.event_log_entry.asset_materialization for entry in events]
    wanted = [entry for entry in made if entry is not None and asset and entry.asset_key == AssetKey(asset)]
    said = {name: value.value for entry in wanted for name, value in entry.metadata.items()}
    return {**said, "status": run.status.value}
