"""A cluster made once: to copy it is faster than to make another."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.conftest import settings_at

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """A data folder whose server was started once and stopped."""
    folder = Path(tempfile.mkdtemp(prefix="bm-"))
    server.database_url(settings_at(folder))
    server.stop(settings_at(folder))
    yield folder / "postgres"
    shutil.rmtree(folder)
