from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UPath]:
    """A folder, and the same at an fsspec URL."""
    if request.param == "folder":
        yield UPath(str(tmp_path / "artifacts"))
        return
    _forget()
    yield UPath("memory://artifacts")
    _forget()


def _forget() -> None:
    MemoryFileSystem.store.clear()
    # Folders that were made, which it remembers on their own.
    MemoryFileSystem.pseudo_dirs[:] = [""]
