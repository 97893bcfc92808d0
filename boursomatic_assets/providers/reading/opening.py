"""Opening of files: the content decides the format, and text is converted to UTF-8.

Archives are unpacked in memory. Nothing here interprets a table.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.reading import stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".txt", ".txt.gz", ".tsv", ".tsv.gz", ".zip")
HIDDEN = (".", "_", "~$")
HEAD_BYTES = 64_000
BINARY_SHARE = 0.02
_HIVE = re.compile(r"([A-Za-z_][A-Za-z0-9_ ]*)=(.+)")
_WIDE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_KNOWN_CONTENT: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"\s*<(!doctype|html|\?xml|head|body|table|div)", re.IGNORECASE),
        "a web page or XML, not a table",
    ),
    (re.compile(rb"\s*[{\[]"), "JSON, not a table; write it as CSV or Parquet"),
    (re.compile(rb"%PDF"), "a PDF, not a table"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an Excel workbook; save it as CSV UTF-8"),
    (re.compile(rb"ARROW1|FEA1"), "a Feather (Arrow) file; write it as CSV or Parquet"),
    (re.compile(rb"\x80[\x02-\x05][\x95c]"), "a pickle; write it as CSV or Parquet"),
    (re.compile(rb"\x89HDF"), "an HDF5 file; write the table as CSV or Parquet"),
    (re.compile(rb"SQLite format 3"), "an SQLite database; write the table as CSV or Parquet"),
    (re.compile(rb"\x1f\x8b|\x28\xb5\x2f\xfd|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!"), "a compressed file; unpack it"),
    (re.compile(rb"\s*Exceeded the daily hits limit"), "Stooq's refusal 'Exceeded the daily hits limit', no table"),
    (re.compile(rb"\s*(No data|Brak danych)\s*$"), "an answer without data, no table"),
    (re.compile(rb"\s*version https://git-lfs"), "a pointer of Git LFS, not the file it points to"),
)


class UnreadableError(SourceFileError):
    """A file without a table: beside files with tables it is reported and skipped."""


@dataclass(frozen=True)
class Content:
    """Place of a table: a file, or a member of a ZIP archive.

    `hive` holds columns from folder names, such as `symbol=AAPL`; `folders` are the folder names below the
    requested path.
    """

    path: Path
    member: str | None = None
    hive: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Path and member, for messages."""
        return f"{self.path}, {self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """Name without folders and extensions: the symbol, in a folder of one file per symbol."""
        name = PurePosixPath(self.member).name if self.member else self.path.name
        lowered = name.lower()
        for ending in (".gz", ".zip", ".parquet", ".csv", ".txt", ".tsv"):
            if lowered.endswith(ending):
                name = name[: -len(ending)]
                lowered = name.lower()
        return name

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file, by its extension or its content."""
        return self.path.suffix.lower() == ".parquet" or (self.member is None and self.head(4) == b"PAR1")

    @property
    def is_plain(self) -> bool:
        """Whether the stored file is UTF-8 text, which can be scanned without loading it."""
        head = self.head(HEAD_BYTES)
        marks = (b"\x1f\x8b", b"\xef\xbb\xbf", *_WIDE)
        # Lines of classic Mac OS and text with NUL are converted first.
        is_other = head.startswith(marks) or b"\0" in head or (b"\r" in head and b"\n" not in head)
        return self.member is None and not is_other and _is_utf8(head)

    def head(self, size: int) -> bytes:
        """First bytes of the stored file."""
        try:
            with stored.opened(self.path) as file:
                return file.read(size)
        except OSError as error:
            message = f"{self} cannot be read: {error}"
            raise SourceFileError(message) from error

    def text_head(self) -> bytes:
        """Start of the text as UTF-8, up to a complete line."""
        if self.is_plain:
            head = self.head(HEAD_BYTES)
            _require_table(self, head)
            return head if len(head) < HEAD_BYTES else head[: head.rfind(b"\n") + 1] or head
        return self.text()[:HEAD_BYTES]

    def text(self) -> bytes:
        """The whole text, as UTF-8 without a byte order mark.

        Raises UnreadableError if the file is empty or holds something other than a table; SourceFileError if it is
        damaged.
        """
        try:
            data = stored.content(self.path, self.member)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            message = f"{self} cannot be read; it may be truncated or of another format: {error}"
            raise SourceFileError(message) from error
        _require_table(self, data)
        return _as_utf8(self, data)


def text_of(path: Path) -> str:
    """Text of a file, or of the only table in an archive, in any encoding; empty for an empty file.

    Raises FileNotFoundError if the path does not exist, SourceFileError if the file cannot be read or is not text.
    """
    with stored.opened(path) as file:
        if not file.read(1):
            return ""
    contents = list(_members(path, {}, ()))
    if len(contents) > 1:
        message = f"{path} is an archive of {len(contents)} tables; expected one"
        raise SourceFileError(message)
    return contents[0].text().decode()


def _require_table(content: Content, data: bytes) -> None:
    blank = b"\x00\xef\xbb\xbf\xff\xfe \t\r\n"
    said = None if data[:HEAD_BYTES].strip(blank) or data.strip(blank) else "empty"
    said = said or next((what for pattern, what in _KNOWN_CONTENT if pattern.match(data)), None)
    if said:
        message = f"{content} is {said}"
        raise UnreadableError(message)


def _as_utf8(content: Content, data: bytes) -> bytes:
    if encoding := next((name for mark, name in _WIDE.items() if data.startswith(mark)), None):
        return data.decode(encoding, errors="replace").encode()
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    head = data[:HEAD_BYTES]
    # A table is mostly ASCII: in UTF-16 every second byte is 0, and of the others none.
    zeros = head[::2].count(0), head[1::2].count(0)
    if max(zeros) > len(head) // 3 and min(zeros) < BINARY_SHARE * len(head):
        return data.decode("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le", errors="replace").encode()
    if b"\0" in data:
        message = f"{content} holds NUL bytes, as after a crash; write or download it again"
        raise SourceFileError(message)
    if _count_binary(head) > BINARY_SHARE * len(head):
        message = f"{content} is no text; it may be of another format than its name says"
        raise UnreadableError(message)
    # Else CP1252, as Excel writes CSV: dates and prices are ASCII, names keep their accents.
    return data if _is_utf8(data) else data.decode("cp1252", errors="replace").encode()


def _count_binary(data: bytes) -> int:
    return len(data) - len(data.translate(None, bytes(byte for byte in range(32) if byte not in b"\t\n\r\f\x1a")))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # The head of a file may end inside a multi-byte character.
        return error.reason == "unexpected end of data" and len(data) == HEAD_BYTES
    return True


def contents_of(path: Path, link_folders: Sequence[Path] | None = None) -> tuple[list[Content], dict[str, str]]:
    """Possible tables in a file, or in a folder and its subfolders, sorted by name; hidden files are ignored.

    The second value has the skipped files of the folder, with reasons: also links that lead out of `link_folders`,
    unless it is None. Raises SourceFileError if the path does not
    exist, a single file holds no table, or the folder has no file with a known extension.
    """
    if not path.exists():
        message = f"there is nothing at {path}. Correct --path (or BOURSOMATIC_PROVIDER_PATH)"
        raise SourceFileError(message)
    if not path.is_dir():
        return list(_members(path, {}, ())), {}
    files = sorted(_files_below(path))
    if not files:
        message = f"the folder {path} holds no file that ends in {', '.join(SUFFIXES)}"
        raise SourceFileError(message)
    contents: list[Content] = []
    skipped: dict[str, str] = {}
    for file in files:
        if link_folders is not None and not any(map(file.resolve().is_relative_to, link_folders)):
            skipped[str(file.relative_to(path))] = "a link to a file outside the folders that a run may read"
            continue
        folders = file.relative_to(path).parts[:-1]
        matches = (_HIVE.fullmatch(folder) for folder in folders)
        try:
            contents += _members(file, {match[1]: match[2] for match in matches if match}, folders)
        except UnreadableError as error:
            skipped[str(file.relative_to(path))] = str(error)
    return contents, skipped


def _files_below(folder: Path) -> Iterator[Path]:
    """Files by their extension, in folders of any depth; links to folders are not followed."""
    pending = [folder]
    while pending:
        # A folder that cannot be read is left out.
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.startswith(HIDDEN):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    yield Path(entry.path)


def _is_shown(path: Path) -> bool:
    return not any(part.startswith(HIDDEN) for part in path.parts)


def _members(path: Path, hive: Mapping[str, str], folders: tuple[str, ...]) -> Iterator[Content]:
    """The file itself, or the members of a ZIP archive."""
    whole = Content(path, hive=hive, folders=folders)
    if whole.head(4) != b"PK\x03\x04":
        yield whole
        return
    try:
        names = stored.members(path)
    except (zipfile.BadZipFile, OSError) as error:
        message = f"{path} cannot be read; it is a truncated or damaged ZIP archive: {error}"
        raise SourceFileError(message) from error
    if "[Content_Types].xml" in names:
        message = f"{path} is an Excel workbook; save it as CSV UTF-8"
        raise UnreadableError(message)
    tables = sorted(name for name in names if name.lower().endswith(SUFFIXES[1:-1]) and _is_shown(Path(name)))
    if not tables:
        message = f"{path} is a ZIP archive without a file that ends in {', '.join(SUFFIXES[1:-1])}"
        raise UnreadableError(message)
    for name in tables:
        yield Content(path, name, hive, (*folders, *PurePosixPath(name).parts[:-1]))
