"""The file of a backup: a tar of the database, the artifacts, and a listing with their digests."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from boursomatic_assets.errors import BackupError

CONTENTS, DUMP, ARTIFACTS = "backup.json", "database.dump", "artifacts/"
FORMAT = 1
CHUNK = 1 << 20
MOST_CONTENTS = 1 << 28


class Contents(BaseModel):
    """The listing of a backup.

    Attributes
    ----------
    format : int
    created : str
        UTC.
    revision : str
        Of the database.
    bytes : int
        Of all files.
    sha256 : dict of str to str
        Digest of each file.
    """

    model_config = ConfigDict(frozen=True)

    format: int
    created: str
    revision: str
    bytes: int
    sha256: dict[str, str]

    @property
    def artifacts(self) -> int:
        """Number of artifacts."""
        return len(self.sha256) - 1


class _Digesting:
    """A file that is read once, and the digest of what was read."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self.sha256 = content, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._content.read(size)
        self.sha256.update(chunk)
        return chunk


def add_member(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> str:
    """Add a file; its SHA-256."""
    member, source = tarfile.TarInfo(name), _Digesting(content)
    member.size, member.mode = content.seek(0, io.SEEK_END), 0o600
    content.seek(0)
    archive.addfile(member, source)
    return source.sha256.hexdigest()


@contextmanager
def opened_archive(file: Path) -> Iterator[tarfile.TarFile]:
    """Open a backup to read it; raises BackupError if it is none."""
    try:
        with closing(tarfile.open(file, "r:")) as archive:
            yield archive
    except (FileNotFoundError, IsADirectoryError):
        message = f"there is no file {file}"
        raise BackupError(message) from None
    except (tarfile.TarError, EOFError) as error:
        message = f"{file} is no backup, or is damaged: {error}"
        raise BackupError(message) from error


def _listing(archive: tarfile.TarFile) -> Contents:
    """The listing of a backup of a known format."""
    try:
        # A longer listing is cut off, and then no JSON.
        text = content_of(archive, archive.getmember(CONTENTS)).read(MOST_CONTENTS)
        contents = Contents.model_validate_json(text)
    except (KeyError, ValidationError):
        message = f"the file holds no readable {CONTENTS}: it is no backup, or was cut off"
        raise BackupError(message) from None
    if contents.format != FORMAT:
        message = f"this program reads backups of format {FORMAT}, found {contents.format}. Install a newer one"
        raise BackupError(message)
    return contents


def verified_contents(archive: tarfile.TarFile) -> Contents:
    """Contents of a backup, after every name, kind, and digest was compared."""
    contents = _listing(archive)
    members = {member.name: member for member in archive if member.name != CONTENTS}
    digests = contents.sha256
    if set(members) != set(digests) or DUMP not in members or len(archive.getmembers()) != len(members) + 1:
        message = "the backup does not hold the files that it lists: it was changed"
        raise BackupError(message)
    for name, member in members.items():
        parts = PurePosixPath(name).parts
        is_place = name == DUMP or (name.startswith(ARTIFACTS) and len(parts) > 1 and ".." not in parts)
        if not (member.isreg() and not member.issparse() and is_place and "\\" not in name):
            message = f"the backup holds {name!r}, which is no artifact: it was changed"
            raise BackupError(message)
    if sum(member.size for member in members.values()) != contents.bytes:
        message = f"the files of the backup do not have {contents.bytes:,} bytes in all: it was changed"
        raise BackupError(message)
    for name, member in members.items():
        if copied(content_of(archive, member), None) != digests[name]:
            message = f"{name} differs from its recorded SHA-256: the backup is damaged. Nothing was restored"
            raise BackupError(message)
    return contents


def content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Content of a member; raises BackupError if it is no file."""
    content = archive.extractfile(member)
    if content is None:
        message = f"the backup holds {member.name!r}, which is no file: it was changed"
        raise BackupError(message)
    return content


def copied(source: IO[bytes], target: IO[bytes] | None) -> str:
    """Read to the end, write it to the target if there is one; the digest of what was read."""
    digesting = _Digesting(source)
    while chunk := digesting.read(CHUNK):
        if target is not None:
            target.write(chunk)
    return digesting.sha256.hexdigest()
