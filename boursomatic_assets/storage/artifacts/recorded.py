"""Stored files compared with what the event log recorded of them, before their bytes are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from upath import UPath

from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.errors import TamperedArtifactError

# Metadata key of a materialization. The value is the SHA-256 of its file.
FILE_SHA256 = "file_sha256"
# Name of the recorded version of the content. It does not depend on the format of the file.
DATA_VERSION = "data_version"


def file_record(path: UPath, content: bytes) -> dict[str, Any]:
    """What is recorded of a stored file."""
    return {"path": str(path), "bytes": len(content), FILE_SHA256: sha256(content)}


@dataclass(frozen=True)
class RecordedFile:
    """A file that the event log recorded with its asset; `select` materializes it again.

    `digests` are those recorded, by name. Earlier versions recorded digests of the content, none of the file.
    """

    name: str
    select: str
    digests: Mapping[str, object]

    def require(self, path: UPath, content: bytes, earlier: Callable[[], Mapping[str, object]]) -> None:
        """Compare the bytes that were read from a path with the record; raises TamperedArtifactError.

        `earlier` computes from the bytes what versions without `FILE_SHA256` recorded.
        """
        found = {FILE_SHA256: sha256(content)} if FILE_SHA256 in self.digests else earlier()
        for name, value in found.items():
            expected = self.digests.get(name)
            if value != expected:
                message = (
                    f"{self.name} is not what was stored: expected {name} {expected}, found {value} in {path}. "
                    f"Materialize it again: boursomatic materialize --select {self.select}"
                )
                raise TamperedArtifactError(message)
