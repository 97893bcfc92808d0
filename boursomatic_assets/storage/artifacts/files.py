"""Files that appear whole or not at all, in a local folder or at an fsspec URL."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from upath import UPath

from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.private import FILE_MODE, FOLDER_MODE, make_folders, open_file, sync_folder

DISCARDED, PARTIAL = ".discarded", ".partial"


def write_whole(path: UPath, content: bytes) -> None:
    """Write a file atomically; a local one is private to its owner. Raises ArtifactWriteError, leaving nothing."""
    if not _is_local(path):
        # Object stores publish an object only when its upload is complete.
        try:
            path.write_bytes(content)
        except OSError as error:
            raise _unwritable(path, error) from error
        return
    target = Path(path.path)
    try:
        make_folders(target.parent)
        with _beside(target, partial(Path.touch, mode=FILE_MODE)) as beside:
            _write_synced(beside, content)
            beside.replace(target)
            sync_folder(target.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_folder(folder: UPath, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files atomically; raises FileExistsError, or ArtifactWriteError and leaves nothing.

    At a URL that cannot rename, the last file is written last: the folder counts only with it.
    """
    if folder.exists():
        raise FileExistsError(str(folder))
    if not _is_local(folder):
        _write_remote_folder(folder, files)
        return
    target = Path(folder.path)
    try:
        make_folders(target.parent)
        with _beside(target, partial(Path.mkdir, mode=FOLDER_MODE)) as beside:
            for name, content in files.items():
                _write_synced(beside / name, content)
            sync_folder(beside)
            beside.rename(target)
            sync_folder(target.parent)
    except OSError as error:
        # Another process may have created the folder meanwhile; a full one cannot be renamed over.
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST} and target.is_dir():
            raise FileExistsError(str(target)) from error
        raise _unwritable(folder, error) from error


@contextlib.contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """A neighbour of a local file that takes its name when the block ends; removed on an error."""
    with _beside(file, partial(Path.touch, mode=FILE_MODE)) as beside:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(file)
        sync_folder(file.parent)


@contextlib.contextmanager
def scratch_file(place: Path) -> Iterator[Path]:
    """An empty temporary neighbour of a local path, removed at the end; after a kill by the next one beside it."""
    with _beside(place, partial(Path.touch, mode=FILE_MODE)) as beside:
        try:
            yield beside
        finally:
            _remove(beside)


@contextlib.contextmanager
def _beside(target: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    """A temporary neighbour to be renamed to the target, removed on an error.

    Its writer holds a lock on it; without a lock it was left by a dead process.
    """
    sweep_partial(target.parent)
    beside, held = _created(target, create)
    try:
        yield beside
    except BaseException:
        _remove(beside)
        raise
    finally:
        os.close(held)


def _created(target: Path, create: Callable[[Path], object]) -> tuple[Path, int]:
    while True:
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL}")
        create(beside)
        try:
            held = os.open(beside, os.O_RDONLY)
        except FileNotFoundError:
            # Another process swept it before it was locked.
            continue
        # Without locks in the file system nothing is swept either.
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        if beside.exists():
            return beside, held
        os.close(held)


def sweep_partial(folder: Path) -> None:
    """Remove unfinished files of dead processes; files being written stay."""
    for left in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(held)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write_remote_folder(folder: UPath, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        remove_folder(folder)
        raise _unwritable(folder, error) from error


def remove_folder(folder: UPath) -> None:
    """Remove a folder with its content; errors are ignored."""
    if _is_local(folder):
        shutil.rmtree(Path(folder.path), ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            folder.fs.rm(folder.path, recursive=True)


def folder_bytes(folder: UPath) -> int:
    """Size of the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def discard(path: UPath) -> None:
    """Remove a file or a folder; a local folder vanishes atomically. Raises ArtifactWriteError."""
    try:
        if not path.is_dir():
            path.unlink()
        elif _is_local(path):
            # Renamed first: a crash never leaves half a folder under its name.
            local = Path(path.path)
            hidden = local.with_name(f".{local.name}.{secrets.token_hex(4)}{DISCARDED}")
            local.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            path.fs.rm(path.path, recursive=True)
    except OSError as error:
        message = f"{path} cannot be removed: {error.strerror or error}"
        raise ArtifactWriteError(message) from error


def sweep(folder: UPath) -> None:
    """Remove what dead processes left in a local folder, half removed or half written."""
    if _is_local(folder):
        sweep_partial(Path(folder.path))
        for left in Path(folder.path).glob(f".*{DISCARDED}"):
            shutil.rmtree(left, ignore_errors=True)


def read_folder(folder: UPath) -> dict[str, bytes]:
    """Content of every file of a folder, by name; raises MissingArtifactError without the folder."""
    if not folder.exists():
        message = f"there is no bundle at {folder}; see what there is: boursomatic models list"
        raise MissingArtifactError(message)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir(), key=str) if path.is_file()}


def read_whole(path: UPath, asset: str) -> bytes:
    """Read a stored asset.

    Raises MissingArtifactError if it was never stored, and TamperedArtifactError for anything but a file: a pipe
    would be waited for.
    """
    if path.exists() and not path.is_file():
        message = f"expected a file of {asset} at {path}, found a folder, a pipe or a device. Remove it"
        raise TamperedArtifactError(message)
    try:
        return bytes(path.read_bytes())
    except FileNotFoundError:
        message = (
            f"asset {asset} was never stored at {path}.\nMaterialize it: boursomatic materialize --select {asset}"
        )
        raise MissingArtifactError(message) from None


def browser_url(path: UPath) -> str | None:
    """URL that a browser on this machine opens; None for a file elsewhere."""
    return Path(path.path).as_uri() if _is_local(path) else None


def _is_local(path: UPath) -> bool:
    return path.protocol in {"", "file", "local"}


def _write_synced(path: Path, content: bytes) -> None:
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _unwritable(path: UPath, error: OSError) -> ArtifactWriteError:
    message = (
        f"{path} cannot be written: {error.strerror or error}. Nothing of it was left behind.\n"
        "Free space or choose another place: boursomatic materialize --artifacts-dir DIR"
    )
    return ArtifactWriteError(message)
