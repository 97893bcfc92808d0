"""Snapshots of training panels, named by their content.

Histories are rewritten by splits and corrections, so the database alone cannot reproduce a training.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from upath import UPath

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.files import write_whole

FOLDER = "snapshots"
# Manifest keys: the label panel, and the books' closes where the labels do not hold them.
PANEL, CLOSES = NAMED = ("snapshot", "snapshot_of_closes")
# Fixed, so that equal panels give equal files.
_ROWS_A_GROUP = 262_144


@dataclass(frozen=True)
class Snapshot:
    """A stored panel, as a manifest names it: SHA-256 of its content (the file's name) and of the file."""

    fingerprint: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def named_by(cls, manifest: Manifest) -> Snapshot:
        """The snapshot of labels in a manifest; raises MissingArtifactError if it has none."""
        if manifest.snapshot is None:
            message = (
                f"version {manifest.version} was recorded without a snapshot of its training panel, so it "
                "cannot be made again. Versions trained from now on have one: boursomatic materialize"
            )
            raise MissingArtifactError(message)
        return cls(**manifest.snapshot)

    @classmethod
    def of_closes(cls, manifest: Manifest) -> Snapshot | None:
        """The snapshot of the books' closes; None where the labels hold them."""
        recorded = manifest.snapshot_of_closes
        return None if recorded is None else cls(**recorded)

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        return asdict(self)

    def path_in(self, root: UPath) -> UPath:
        """Its file below the artifacts folder."""
        return root / FOLDER / f"{self.fingerprint}.parquet"


def save_snapshot(root: UPath, labels: pl.DataFrame) -> Snapshot:
    """Store a label panel unless an intact file exists; a damaged one is replaced. Raises ArtifactWriteError."""
    name = fingerprint(labels)
    path = root / FOLDER / f"{name}.parquet"
    content = _read_if_whole(path, name)
    if content is None:
        buffer = io.BytesIO()
        labels.rechunk().write_parquet(
            buffer, compression="zstd", compression_level=1, row_group_size=_ROWS_A_GROUP
        )
        content = buffer.getvalue()
        write_whole(path, content)
    return Snapshot(name, labels.height, len(content), sha256(content))


def keep_snapshot(root: UPath, snapshot: Snapshot, labels: pl.DataFrame) -> None:
    """Store a panel again if its snapshot was removed after `save_snapshot`."""
    if not snapshot.path_in(root).exists():
        save_snapshot(root, labels)


def read_snapshot(root: UPath, snapshot: Snapshot) -> pl.DataFrame:
    """Read a panel after comparing its digest; raises MissingArtifactError or TamperedArtifactError."""
    path = snapshot.path_in(root)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        message = f"the snapshot {path} of {snapshot.rows} training rows is gone. Restore it from a backup"
        raise MissingArtifactError(message) from None
    found = sha256(content)
    if found != snapshot.sha256:
        message = (
            f"{path} is not the snapshot that was recorded: expected SHA-256 {snapshot.sha256}, found {found}. "
            "It was not used. Restore it from a backup"
        )
        raise TamperedArtifactError(message)
    return pl.read_parquet(io.BytesIO(content))


def _read_if_whole(path: UPath, name: str) -> bytes | None:
    """Content of the file if it holds the panel of this fingerprint; None if missing or damaged."""
    try:
        content = bytes(path.read_bytes())
        return content if fingerprint(pl.read_parquet(io.BytesIO(content))) == name else None
    except (pl.exceptions.PolarsError, OSError, ValueError):
        return None
