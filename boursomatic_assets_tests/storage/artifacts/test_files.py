from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError
from boursomatic_assets.storage.artifacts.files import (
    read_folder,
    read_whole,
    remove_folder,
    sweep,
    write_folder,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {"a.txt": b"first", "b.bin": bytes(range(256)), "manifest.json": b"{}"}
LARGE = {"small.txt": b"x", "large.bin": b"y" * 300_000, "manifest.json": b"{}"}
ROOM = 200_000


@contextmanager
def file_size_limit() -> Iterator[None]:
    """A write beyond `ROOM` bytes of one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of `ROOM` bytes; where mounting one is not allowed, a limit on the size of each file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(disk)]
    with ExitStack() as stack:
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            stack.callback(subprocess.run, ["umount", str(disk)], check=True)
        else:
            stack.enter_context(file_size_limit())
        yield disk


def everything_in(folder: Path) -> list[str]:
    """Files at any depth, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_write_whole_writes_and_replaces(root: UPath) -> None:
    path = root / "assets" / "labels.parquet"
    write_whole(path, b"old and longer")
    assert read_whole(path, "labels") == b"old and longer"
    write_whole(path, b"new")
    assert read_whole(path, "labels") == b"new"
    assert [found.name for found in (root / "assets").iterdir()] == ["labels.parquet"]


def test_write_folder_and_read_folder_round_trip(root: UPath) -> None:
    write_folder(root / "models" / "v1", FILES)
    assert read_folder(root / "models" / "v1") == FILES
    assert [found.name for found in (root / "models").iterdir()] == ["v1"]


def test_write_folder_refuses_an_existing_folder(root: UPath) -> None:
    write_folder(root / "models" / "v1", FILES)
    with pytest.raises(FileExistsError, match="v1"):
        write_folder(root / "models" / "v1", {"a.txt": b"other"})
    assert read_folder(root / "models" / "v1") == FILES
    assert [found.name for found in (root / "models").iterdir()] == ["v1"]


def test_remove_folder_keeps_its_neighbour(root: UPath) -> None:
    write_folder(root / "models" / "v1", FILES)
    write_folder(root / "models" / "v2", FILES)
    remove_folder(root / "models" / "v1")
    assert [found.name for found in (root / "models").iterdir()] == ["v2"]


def test_missing_asset_is_reported_with_a_command(root: UPath) -> None:
    with pytest.raises(MissingArtifactError, match=r"boursomatic materialize --select labels$"):
        read_whole(root / "assets" / "labels.parquet", "labels")
    with pytest.raises(MissingArtifactError, match="boursomatic models list") as caught:
        read_folder(root / "models" / "v1")
    assert "v1" in str(caught.value)


def test_writes_below_a_file_are_refused(root: UPath) -> None:
    write_whole(root / "models", b"not a folder")
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir") as caught:
        write_folder(root / "models" / "v1", FILES)
    assert str(root / "models" / "v1") in str(caught.value)
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir"):
        write_whole(root / "models" / "labels.parquet", b"new")
    assert read_whole(root / "models", "models") == b"not a folder"


def test_write_folder_on_a_missing_disk_is_refused(tmp_path: Path) -> None:
    # A link to a disk that is not mounted. It must not count as an existing folder, or the caller tries new names
    # for ever.
    (tmp_path / "models").symlink_to("/no-such-disk/models")
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir") as caught:
        write_folder(UPath(str(tmp_path / "models" / "v1")), FILES)
    assert str(tmp_path / "models" / "v1") in str(caught.value)


def test_write_folder_on_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    folder = small_disk / "models" / "v1"
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir") as caught:
        write_folder(UPath(str(folder)), LARGE)
    assert str(folder) in str(caught.value)
    assert "No space left" in str(caught.value) or "too large" in str(caught.value)
    assert everything_in(small_disk) == []
    assert not folder.exists()
    # What fits can still be written there.
    write_folder(UPath(str(folder)), FILES)
    assert read_folder(UPath(str(folder))) == FILES


def test_write_whole_on_a_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    path = UPath(str(small_disk / "assets" / "labels.parquet"))
    write_whole(path, b"before")
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir") as caught:
        write_whole(path, b"y" * 300_000)
    assert str(path) in str(caught.value)
    assert everything_in(small_disk) == ["assets/labels.parquet"]
    assert read_whole(path, "labels") == b"before"


def test_writes_beyond_the_file_size_limit_leave_nothing(tmp_path: Path) -> None:
    with file_size_limit():
        with pytest.raises(ArtifactWriteError, match="File too large"):
            write_folder(UPath(str(tmp_path / "v1")), LARGE)
        with pytest.raises(ArtifactWriteError, match="File too large"):
            write_whole(UPath(str(tmp_path / "labels.parquet")), LARGE["large.bin"])
    assert everything_in(tmp_path) == []


def test_write_whole_is_atomic_for_readers(tmp_path: Path) -> None:
    path, size = UPath(str(tmp_path / "labels.parquet")), 5_000_000
    write_whole(path, b"0" * size)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [write_whole(path, str(turn % 10).encode() * size) for turn in range(30)])
        reads = 0
        while not writing.done():
            content = read_whole(path, "labels")
            assert (len(content), content.count(content[:1])) == (size, size)
            reads += 1
    assert writing.exception() is None
    assert reads > 1


# Children that write one folder, and one file, after the other until they are killed. Forked, so that only the
# first of them pays for the imports.
WRITER = """
import itertools, os, signal, sys, time
from upath import UPath
from boursomatic_assets.storage.artifacts.files import write_folder, write_whole
root, delays = UPath(sys.argv[1]), [float(text) for text in sys.argv[2:]]
content = {f"{name}.bin": name.encode() * 300_000 for name in "abcd"}
write_whole(root / "newest.bin", b"0" * 1_000_000)
for number, delay in enumerate(delays):
    child = os.fork()
    if not child:
        for turn in itertools.count():
            write_folder(root / f"v{number}_{turn}", content)
            write_whole(root / "newest.bin", (str(turn % 10) * 1_000_000).encode())
    time.sleep(delay)
    # Half of the kills fall anywhere, the others into a write after a whole folder: stopped, it cannot end one.
    while number % 2:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        names = os.listdir(root)
        if f"v{number}_0" in names and any(name.startswith(".") for name in names):
            break
        os.kill(child, signal.SIGCONT)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # What was cut off; the next write removes it.
    print(sum(name.startswith(".") for name in os.listdir(sys.argv[1])))
"""


def test_killed_writer_leaves_only_whole_files(tmp_path: Path) -> None:
    # Moments spread over the first writes, unevenly, the same in each run of the test.
    delays = [str(random.Random(number).uniform(0.003, 0.12)) for number in range(20)]  # noqa: S311
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), *delays], stdout=subprocess.PIPE, check=True, timeout=900
    )
    visible = [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert visible
    for folder in visible:
        found = read_folder(UPath(str(folder)))
        assert {name: (len(content), set(content)) for name, content in found.items()} == {
            f"{letter}.bin": (300_000, {ord(letter)}) for letter in "abcd"
        }, folder
    newest = read_whole(UPath(str(tmp_path / "newest.bin")), "newest")
    assert (len(newest), len(set(newest))) == (1_000_000, 1)
    # Some kills fell into writes: partial files existed under hidden names.
    assert len(left := [int(count) for count in ended.stdout.split()]) == len(delays)
    assert all(left[1::2])


def test_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom upath import UPath\nfrom boursomatic_assets.storage.artifacts.files import write_folder\n"
        "print('ready', flush=True)\n"
        "for turn in range(100_000):\n"
        "    write_folder(UPath(sys.argv[1]) / f'v{turn}', {'a.bin': b'a' * 20_000_000, 'b.bin': b'b'})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while not list(tmp_path.glob(".*/a.bin")):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=900)[1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# Writes a folder until it is told to go on, or killed.
SLOW_WRITER = """
import sys
from upath import UPath
from boursomatic_assets.storage.artifacts import files as artifacts
write = artifacts._write_synced
def write_slowly(path, content):
    write(path, content)
    print("begun", flush=True)
    input()
artifacts._write_synced = write_slowly
artifacts.write_folder(UPath(sys.argv[1]), {"a.txt": b"first"})
"""


def test_sweep_removes_only_files_of_dead_writers(tmp_path: Path) -> None:
    models, writers = tmp_path / "models", []
    for name in ("killed", "alive"):
        command = [sys.executable, "-c", SLOW_WRITER, str(models / name)]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout is not None
        assert writers[-1].stdout.readline() == "begun\n"
    killed, alive = writers
    killed.kill()
    killed.communicate()
    assert len(list(models.glob(".killed.*.partial"))) == 1
    sweep(UPath(str(models)))
    assert list(models.glob(".killed.*.partial")) == []
    assert len(list(models.glob(".alive.*.partial"))) == 1
    alive.communicate("\n")
    assert alive.returncode == 0
    assert [path.name for path in models.iterdir()] == ["alive"]


def test_write_whole_sweeps_files_of_dead_writers(tmp_path: Path) -> None:
    folder, file = tmp_path / ".v1.abcd.partial", tmp_path / ".panel.parquet.abcd.partial"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"half")
    file.write_bytes(b"half")
    write_whole(UPath(str(tmp_path / "panel.parquet")), b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["panel.parquet"]
