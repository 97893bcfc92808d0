"""Files that are made to harm: bombs, pipes, links, deep folders, long lines, and names that drive a terminal."""

from __future__ import annotations

import gzip
import inspect
import io
import os
import sys
import zipfile
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.members import read_member_file
from boursomatic_assets.providers.reading import stored
from boursomatic_assets.providers.reading.opening import contents_of
from boursomatic_assets.providers.reading.stored import most_unpacked
from boursomatic_assets.providers.source import Outcome
from boursomatic_assets.providers.universe import read_listing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "Date,Symbol,Open,High,Low,Close,Volume\n"
LINE = "2024-01-31,AAPL,10,12,9,11,1000\n"
# 17 MB of one line packs to a thousandth.
TOO_LARGE = (HEADER + LINE * (stored.ALWAYS_UNPACKED // len(LINE) + 1)).encode()


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("prices.csv", content)
    return target.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("prices.csv.gz", gzip.compress),
        ("prices.zip", zipped),
        ("nested.zip", lambda content: zipped(gzip.compress(content))),
    ],
)
@pytest.mark.parametrize("read", [lambda path: FilesProvider(path).bars(), read_listing, read_member_file])
def test_a_bomb_is_not_unpacked(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], read: Callable[[Path], object]
) -> None:
    path = tmp_path / name
    path.write_bytes(pack(TOO_LARGE))
    with pytest.raises(SourceFileError, match="unpacks to more than 17 MB"):
        read(path)


def test_prices_that_pack_well_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress((HEADER + LINE * 10_000).encode()))
    assert FilesProvider(path).bars().height == 10_000
    # A hundredfold, from 16 MiB to 4 GiB.
    assert [most_unpacked(size) for size in (1, 10**6, 10**9)] == [1 << 24, 10**8, 1 << 32]


def test_an_archive_of_many_files_is_judged_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "prices.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.csv", TOO_LARGE[: len(TOO_LARGE) // 2])
    with pytest.raises(SourceFileError, match="unpacks to more than"):
        FilesProvider(path).bars()


def test_a_small_parquet_file_of_many_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    row = pl.DataFrame({"Date": ["2024-01-31"], "Symbol": ["AAPL"], "Close": [11.0]})
    pl.concat([row] * 1_000).select(pl.all().repeat_by(2_000).explode()).write_parquet(path)
    with pytest.raises(SourceFileError, match=r"2,000,000 rows in .* bytes"):
        FilesProvider(path).bars()


@pytest.mark.parametrize("read", [lambda path: FilesProvider(path).bars(), read_listing, read_member_file])
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "prices.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("prices.csv", "zero.csv"):
        with pytest.raises(SourceFileError, match="no file but a pipe, a device or a socket"):
            read(tmp_path / name)


def test_a_pipe_or_a_device_in_a_folder_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "AAPL.csv").write_text(HEADER + LINE)
    assert FilesProvider(tmp_path).bars().height == 1


def test_links_out_of_the_allowed_folders_are_refused(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed / "deep", other):
        folder.mkdir(parents=True)
    (allowed / "AAPL.csv").write_text(HEADER + LINE)
    (other / "KO.csv").write_text((HEADER + LINE).replace("AAPL", "KO"))
    (allowed / "deep" / "KO.csv").symlink_to(other / "KO.csv")
    (allowed / "more").symlink_to(other)
    assert set(FilesProvider(allowed).bars()["symbol"]) == {"AAPL", "KO"}
    (batch,) = FilesProvider(allowed, (allowed.resolve(),)).batches()
    assert set(batch.bars["symbol"]) == {"AAPL"}
    (refused,) = [report for report in batch.reports if report.outcome is Outcome.REFUSED]
    assert (refused.symbol, refused.detail) == (
        "KO.csv",
        "a link to a file outside the folders that a run may read",
    )
    both = FilesProvider(allowed, (allowed.resolve(), other.resolve()))
    assert set(both.bars()["symbol"]) == {"AAPL", "KO"}


def test_folders_of_any_depth_are_searched(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(400):
        folder /= "d"
        folder.mkdir()
    (folder / "AAPL.csv").write_text(HEADER + LINE)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        contents, skipped = contents_of(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert ([content.name for content in contents], skipped) == (["AAPL"], {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Date," * 1_000_000 + "\n" + LINE, "none found for"),
        (HEADER + LINE + "1," * 1_000_000 + "\n" + LINE, "expected as many cells in a row as the header has"),
        (HEADER + "x" * 10_000_000 + "\n" + LINE, ""),
    ],
)
def test_a_line_of_millions_of_signs_is_refused_or_set_aside(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    if says:
        with pytest.raises(SourceFileError, match=says) as caught:
            FilesProvider(path).bars()
        assert len(str(caught.value)) < 2_000
    else:
        assert FilesProvider(path).bars().drop_nulls().height == 1


@pytest.mark.parametrize("name", ["\x1b[31mA\n.csv", "A\u202e.csv"])
def test_a_name_that_drives_a_terminal_is_shown_as_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "AAPL.csv").write_text(HEADER + LINE)
    (tmp_path / name).write_bytes(b"{}")
    (batch,) = FilesProvider(tmp_path).batches()
    (refused,) = [report for report in batch.reports if report.outcome is Outcome.REFUSED]
    assert (refused.symbol + refused.detail).isprintable()
