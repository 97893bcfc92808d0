"""A recorded version for verification: its row, bundle and snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upath import UPath

from boursomatic_assets.errors import MissingArtifactError
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.artifacts.snapshots import Snapshot, read_snapshot
from boursomatic_assets.storage.postgres.model_table import active_version, find_version

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.model_table import ModelRow

ACTIVE = "active"


def recorded_version(database: Database, version: str) -> ModelRow:
    """The row of a version, or of the `active` one; raises MissingArtifactError if there is none."""
    row = active_version(database) if version == ACTIVE else find_version(database, version)
    if row is None:
        what = "no version is active" if version == ACTIVE else f"there is no version {version!r}"
        message = f"{what}; see what there is: boursomatic models list"
        raise MissingArtifactError(message)
    return row


def open_recorded(row: ModelRow) -> tuple[Bundle, pl.DataFrame, pl.DataFrame | None]:
    """The bundle, its snapshot of labels and, if any, of closes, after comparing every digest.

    Raises MissingArtifactError or TamperedArtifactError.
    """
    bundle = open_bundle(row.model_path, row.manifest_sha256, row.version)
    # Beside the bundle, even where ARTIFACTS_DIR has changed since.
    root = UPath(row.model_path).parent.parent
    labels, closes = Snapshot.named_by(bundle.manifest), Snapshot.of_closes(bundle.manifest)
    return bundle, read_snapshot(root, labels), None if closes is None else read_snapshot(root, closes)
