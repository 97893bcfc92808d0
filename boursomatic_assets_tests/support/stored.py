"""What is stored in an installation, read and replaced by a test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from upath import UPath

from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.storage.artifacts.stamps import stamp_for, to_json, to_parquet
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.dagster.recorded_files import file_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation


def overwrite_panel(
    installation: Installation, asset: str, panel: pl.DataFrame, experiment: Mapping[str, Any] | None = None
) -> None:
    """Replace a stored panel by another, stamped and recorded as if the asset had made it."""
    stamp = stamp_for(asset, Experiment.parse(dict(experiment or {})))
    overwrite(installation, asset, path_of(installation, asset), to_parquet(panel, stamp))


def overwrite_figures(installation: Installation, asset: str, value: Mapping[str, Any]) -> None:
    """Replace stored figures by others, stamped and recorded as if the asset had made them."""
    path = installation.artifacts / "assets" / f"{asset}.json"
    overwrite(installation, asset, path, to_json(value, stamp_for(asset, Experiment())))


def overwrite(
    installation: Installation, asset: str, path: Path, content: bytes, partition: str | None = None
) -> None:
    """Replace a stored file, and record it as the asset's own.

    Versions of data and results of checks stay as they were: the fault is hidden as well as it can be.
    """
    path.write_bytes(content)
    key = dg.AssetKey(asset)
    with installation.entered(), open_instance(installation.settings, installation.database()) as instance:
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        made = event.asset_materialization
        assert made is not None
        metadata = {**made.metadata, **file_metadata(UPath(str(path)), content)}
        again = dg.AssetMaterialization(key, metadata=metadata, partition=partition, tags=made.tags)
        instance.report_runless_asset_event(again)
        for check, others in REQUIRED_CHECKS.items():
            if key in {check.asset_key, *others}:
                _repeat_result(instance, check)


def _repeat_result(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> None:
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    for record in history:
        if record.event is not None and (last := record.event.asset_check_evaluation) is not None:
            again = dg.AssetCheckEvaluation(check.asset_key, check.name, passed=last.passed, metadata={})
            instance.report_runless_asset_event(again)


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
