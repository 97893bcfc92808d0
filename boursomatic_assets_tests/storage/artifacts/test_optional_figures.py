"""Figures of a report that may be missing: whatever lies in their place, it is read at once or left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from boursomatic_assets.storage.artifacts.optional_figures import read_if_current, read_json
from boursomatic_assets.storage.artifacts.recorded import RecordedFile, file_record
from boursomatic_assets.storage.artifacts.stamps import to_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PART = {"horizon": 20}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_the_place_of_figures_is_left_out(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path, content = UPath(tmp_path / "figures.json"), to_json({"ic": 0.1}, {"experiment": PART})
    record = RecordedFile("figures", "figures", file_record(path, content))
    path.write_bytes(content)
    assert read_if_current(path, PART, lambda: record) == ({"ic": 0.1}, "")
    assert read_json(path, lambda: record) == {"value": {"ic": 0.1}, "stamp": {"experiment": PART}}
    path.unlink()
    make(tmp_path / "figures.json")
    assert read_if_current(path, PART, lambda: record) == (None, "is damaged or was altered")
    assert read_json(path, lambda: record) is None
