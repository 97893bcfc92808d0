"""Snapshots of training panels, named by their content: what a version was trained on, kept as it was then.

Histories get rewritten (splits, corrections), so a database cannot say years later what it once held.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.files import write_whole

if TYPE_CHECKING:
    from upath import UPath

    from boursomatic_assets.core.registry.manifest import Manifest

FOLDER = "snapshots"
# Where a manifest names them: the label panel, and the closes of the books where the labels do not hold them.
PANEL, CLOSES = NAMED = ("snapshot", "snapshot_of_closes")
# Fixed, so that equal panels give equal files however they lie in memory.
_ROWS_A_GROUP = 262_144


@dataclass(frozen=True)
class Snapshot:
    """A stored panel, of labels or of closes, as the manifest of a bundle names it.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of the panel's content, and the file's name.
    rows : int
    bytes : int
        Size of the file.
    sha256 : str
        Digest of the file.
    """

    fingerprint: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def named_by(cls, manifest: Manifest) -> Snapshot:
        """The snapshot that a manifest names.

        Raises
        ------
        MissingArtifactError
            If it names none.
        """
        if manifest.snapshot is None:
            message = (
                f"version {manifest.version} was recorded without a snapshot of its training panel, so it "
                "cannot be made again. Versions trained from now on have one: boursomatic materialize"
            )
            raise MissingArtifactError(message)
        return cls(**manifest.snapshot)

    @classmethod
    def of_closes(cls, manifest: Manifest) -> Snapshot | None:
        """The snapshot of the closes that books are marked by; None where those of the labels are the same."""
        recorded = manifest.snapshot_of_closes
        return None if recorded is None else cls(**recorded)

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return asdict(self)

    def path_in(self, root: UPath) -> UPath:
        """Where it is kept below the artifacts folder."""
        return root / FOLDER / f"{self.fingerprint}.parquet"


def save_snapshot(root: UPath, labels: pl.DataFrame) -> Snapshot:
    """Store a label panel, unless one of the same content is there and whole.

    Parameters
    ----------
    root : UPath
        The artifacts folder.
    labels : DataFrame
        Label panel: the three sets, the models and their figures derive from it.

    Raises
    ------
    ArtifactWriteError
        If it cannot be written; nothing of it is left behind.

    Notes
    -----
    A damaged file is replaced: its name says what belongs into it.
    """
    name = fingerprint(labels)
    path = root / FOLDER / f"{name}.parquet"
    content = _read_if_whole(path, name)
    if content is None:
        content = _encode(labels)
        write_whole(path, content)
    return Snapshot(name, labels.height, len(content), sha256(content))


def keep_snapshot(root: UPath, snapshot: Snapshot, labels: pl.DataFrame) -> None:
    """Store a panel once more if its snapshot has been removed since `save_snapshot` found it in place."""
    if not snapshot.path_in(root).exists():
        save_snapshot(root, labels)


def read_snapshot(root: UPath, snapshot: Snapshot) -> pl.DataFrame:
    """Read a stored label panel, once its digest has been compared.

    Raises
    ------
    MissingArtifactError
        If it is not there.
    TamperedArtifactError
        If the file is not the one that was recorded; names it, the digest expected and the one found.
    """
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


def _encode(labels: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    labels.rechunk().write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=_ROWS_A_GROUP)
    return buffer.getvalue()


def _read_if_whole(path: UPath, name: str) -> bytes | None:
    """Content of a file that holds the panel of this fingerprint; None where there is none or it is damaged."""
    try:
        content = bytes(path.read_bytes())
        return content if fingerprint(pl.read_parquet(io.BytesIO(content))) == name else None
    except (pl.exceptions.PolarsError, OSError, ValueError):
        return None
