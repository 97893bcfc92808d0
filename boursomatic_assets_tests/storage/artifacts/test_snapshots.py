from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from upath import UPath

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.snapshots import Snapshot, read_snapshot, save_snapshot
from boursomatic_assets_tests.support.panels import labelled

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = re.compile("[0-9a-f]{64}")


def names(root: UPath) -> list[str]:
    return sorted(path.name for path in (root / "snapshots").iterdir())


def test_snapshots_round_trip_exactly(root: UPath) -> None:
    panel = labelled()
    stored = save_snapshot(root, panel)
    content = (root / "snapshots" / f"{fingerprint(panel)}.parquet").read_bytes()
    assert stored == Snapshot(fingerprint(panel), 6, len(content), sha256(content))
    back = read_snapshot(root, stored)
    assert back.schema == panel.schema
    assert_frame_equal(back, panel, check_exact=True)
    assert fingerprint(back) == stored.fingerprint
    # The manifest's entry is enough to find it again.
    assert Snapshot.named_by(Manifest(files={}, snapshot=stored.to_json())) == stored


def test_save_snapshot_shares_one_file_between_equal_panels(tmp_path: Path) -> None:
    root = UPath(str(tmp_path))
    first = save_snapshot(root, labelled())
    (path,) = (tmp_path / "snapshots").iterdir()
    written = path.stat()
    # Equal, but in two chunks.
    in_pieces = pl.concat([labelled().head(2), labelled().tail(4)], rechunk=False)
    assert save_snapshot(root, in_pieces) == first
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    second = save_snapshot(root, labelled(close=11.0))
    assert names(root) == sorted(f"{stored.fingerprint}.parquet" for stored in (first, second))


def test_save_snapshot_keeps_an_intact_file_of_another_writer(root: UPath) -> None:
    panel = labelled()
    path = Snapshot(fingerprint(panel), 0, 0, "").path_in(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    with path.open("wb") as file:
        panel.write_parquet(file, compression="uncompressed")
    content = path.read_bytes()
    stored = save_snapshot(root, panel)
    assert path.read_bytes() == content
    assert (stored.sha256, stored.bytes) == (sha256(content), len(content))
    assert_frame_equal(read_snapshot(root, stored), panel)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_snapshot_is_refused_and_repaired(root: UPath, share: float) -> None:
    stored = save_snapshot(root, labelled())
    path = stored.path_in(root)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TamperedArtifactError):
        read_snapshot(root, stored)
    assert save_snapshot(root, labelled()) == stored
    assert path.read_bytes() == content


def test_foreign_panel_under_a_snapshots_name_is_refused_and_replaced(root: UPath) -> None:
    stored, other = save_snapshot(root, labelled()), save_snapshot(root, labelled(close=11.0))
    path = stored.path_in(root)
    path.write_bytes(other.path_in(root).read_bytes())
    with pytest.raises(TamperedArtifactError) as caught:
        read_snapshot(root, stored)
    assert str(path) in str(caught.value)
    assert DIGEST.findall(str(caught.value).replace(stored.fingerprint, "")) == [stored.sha256, other.sha256]
    assert save_snapshot(root, labelled()) == stored
    assert_frame_equal(read_snapshot(root, stored), labelled())


def test_one_bit_is_enough(root: UPath) -> None:
    stored = save_snapshot(root, labelled())
    content = bytearray(stored.path_in(root).read_bytes())
    content[len(content) // 2] ^= 1
    stored.path_in(root).write_bytes(bytes(content))
    with pytest.raises(TamperedArtifactError, match=stored.sha256):
        read_snapshot(root, stored)


def test_missing_snapshot_is_named(root: UPath) -> None:
    with pytest.raises(MissingArtifactError, match=r"snapshots/abc\.parquet of 7 training rows is gone"):
        read_snapshot(root, Snapshot("abc", 7, 1, "0"))
    with pytest.raises(MissingArtifactError, match="version v1 was recorded without a snapshot"):
        Snapshot.named_by(Manifest(files={}, version="v1"))


def test_save_snapshot_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("not a folder")
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir"):
        save_snapshot(UPath(str(tmp_path)), labelled())
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]


# Children that write one snapshot after the other until they are killed; forked, so that only one pays for the
# imports. Threads of the data frames' engine do not outlive a fork: the panels are written by a child's own.
WRITER = """
import itertools, os, signal, sys, time
from pathlib import Path
import numpy as np
from upath import UPath
PARTIAL = "snapshots/.*.partial"
root, delays = Path(sys.argv[1]), [float(text) for text in sys.argv[2:]]
for number, delay in enumerate(delays):
    ready, wake = os.pipe()
    child = os.fork()
    if not child:
        import polars as pl
        from boursomatic_assets.storage.artifacts.snapshots import save_snapshot
        noise = np.random.default_rng(number).normal(size=40_000)
        for turn in itertools.count():
            sessions = pl.Series(range(40_000)).cast(pl.Date)
            panel = pl.DataFrame({"symbol": ["AAA"] * 40_000, "session": sessions, "close": noise + turn})
            save_snapshot(UPath(str(root)), panel)
            # After the first, so that a whole file is there however busy the machine is.
            if not turn:
                os.write(wake, b"x")
    os.close(wake)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(delay)
    # Half of the kills fall anywhere, the others into a write. Stopped, it cannot end a write.
    known = set(root.glob(PARTIAL))
    while number % 2:
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        if set(root.glob(PARTIAL)) - known:
            break
        os.kill(child, signal.SIGCONT)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_killed_writer_leaves_no_partial_snapshot(tmp_path: Path) -> None:
    delays = [str(random.Random(number).uniform(0.001, 0.06)) for number in range(10)]  # noqa: S311
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), *delays], check=True, timeout=900)
    found = [path for path in (tmp_path / "snapshots").iterdir() if not path.name.startswith(".")]
    assert found
    for path in found:
        assert fingerprint(pl.read_parquet(path)) == path.name.removesuffix(".parquet")
    # Some kills fell into writes: partial files exist under hidden names.
    assert any(path.name.startswith(".") for path in (tmp_path / "snapshots").iterdir())
