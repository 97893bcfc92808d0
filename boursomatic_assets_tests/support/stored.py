"""What is stored in an installation, read and replaced by a test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.storage.dagster.io_managers import ParquetIOManager
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation


def overwrite_panel(installation: Installation, asset: str, panel: pl.DataFrame) -> None:
    """Replace a stored panel by another, stamped as the IO manager stamps its own."""
    manager = ParquetIOManager(platform=PlatformResource(), experiment=ExperimentResource())
    stamp = {"asset": asset, "experiment": Experiment().part_for(asset)}
    path_of(installation, asset).write_bytes(manager.encode(panel, stamp))


def path_of(installation: Installation, asset: str) -> Path:
    return installation.artifacts / "assets" / f"{asset}.parquet"


def panel_of(installation: Installation, asset: str) -> pl.DataFrame:
    return pl.read_parquet(path_of(installation, asset))


@contextmanager
def altered(path: Path, content: bytes | None) -> Iterator[None]:
    """A file with other content, or without any, and as it was again."""
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
