"""Stored bytes, within limits: a file, a packed file, or a member of an archive."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from boursomatic_assets.errors import SourceFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Prices as text pack to a fifth or a tenth; small files of one symbol even better.
MOST_TIMES, ALWAYS_UNPACKED = 100, 1 << 24
MOST_UNPACKED = 1 << 32
MOST_MEMBERS = 100_000
_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file; raises SourceFileError for a pipe, a device or a socket, which may have no end.

    Raises OSError if it cannot be opened, or is a folder.
    """
    # O_NONBLOCK: to open a pipe would otherwise block until another process writes to it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            message = f"{path} is no file but a pipe, a device or a socket"
            raise SourceFileError(message)
        yield file


def content(path: Path, member: str | None) -> bytes:
    """Unpacked content of a file, or of a member of a ZIP archive; raises SourceFileError if it is too large."""
    with opened(path) as file:
        if member is None:
            data = _read(file, MOST_UNPACKED, path)
        else:
            with zipfile.ZipFile(file) as archive, archive.open(member) as packed:
                data = _read(packed, most_unpacked(os.fstat(file.fileno()).st_size), path)
    if not data.startswith(_GZIP):
        return data
    with gzip.open(io.BytesIO(data)) as whole:
        return _read(whole, most_unpacked(len(data)), path)


def members(path: Path) -> list[str]:
    """Names of the members of a ZIP archive; raises SourceFileError if they are too many or too large."""
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        limit = most_unpacked(os.fstat(file.fileno()).st_size)
    if len(entries) > MOST_MEMBERS or sum(entry.file_size for entry in entries) > limit:
        raise _too_large(path, limit)
    return [entry.filename for entry in entries]


def most_unpacked(packed: int) -> int:
    """Most bytes that a file of prices may have after it is unpacked."""
    return min(max(MOST_TIMES * packed, ALWAYS_UNPACKED), MOST_UNPACKED)


def _read(file: IO[bytes] | gzip.GzipFile, limit: int, path: Path) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def _too_large(path: Path, limit: int) -> SourceFileError:
    return SourceFileError(
        f"{path} unpacks to more than {limit / 1e6:,.0f} MB or {MOST_MEMBERS:,} files, which prices of its size "
        "cannot. Unpack it, look at it, and name what holds the prices"
    )
