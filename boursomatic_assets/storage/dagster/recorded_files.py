"""The digest of a stored file: recorded in the event log when it is written, compared when it is read."""

from __future__ import annotations

from typing import Any

from dagster import AssetMaterialization, DagsterInstance, InputContext, MetadataValue
from upath import UPath

from boursomatic_assets.errors import MissingArtifactError
from boursomatic_assets.storage.artifacts.recorded import DATA_VERSION, RecordedFile, file_record
from boursomatic_assets.storage.dagster.instance import DATA_VERSION_TAG, materialization_of

# Measurements of `boursomatic bench --proofs`, in a file of this name; no asset of the graph.
PROOFS = "proofs"


def file_metadata(path: UPath, content: bytes) -> dict[str, Any]:
    """Metadata of a stored file."""
    return {**file_record(path, content), "path": MetadataValue.path(str(path))}


def recorded_file(
    instance: DagsterInstance, run_id: str | None, asset: str, partition: str | None = None
) -> RecordedFile:
    """Record of the file of an asset or a partition: from this run, else from its newest materialization.

    Raises MissingArtifactError if nothing is recorded.
    """
    made = materialization_of(instance, run_id, asset, partition)
    digests = {name: entry.value for name, entry in made.metadata.items()}
    digests[DATA_VERSION] = (made.tags or {}).get(DATA_VERSION_TAG)
    return RecordedFile(asset if partition is None else f"{partition} of {asset}", asset, digests)


def record_file(instance: DagsterInstance, asset: str, path: UPath, content: bytes) -> None:
    """Record a file that was stored outside of a run."""
    instance.report_runless_asset_event(AssetMaterialization(asset, metadata=file_metadata(path, content)))


def recorded_input(context: InputContext, partition: str | None = None) -> RecordedFile:
    """The file of an input, as in `recorded_file`; also raises without an instance."""
    asset = context.asset_key.path[-1]
    # Both are None outside of a run; the instance only if none was given.
    instance, step = context._instance, context._step_context  # noqa: SLF001
    if instance is None:
        message = (
            f"{asset} was not read: only the Dagster instance that recorded it can verify it. Set DAGSTER_HOME, or "
            "give it: defs.load_asset_value(..., instance=instance)"
        )
        raise MissingArtifactError(message)
    return recorded_file(instance, None if step is None else step.run_id, asset, partition)
