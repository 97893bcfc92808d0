"""The stamp of a stored asset: its name, and the part of the experiment that shaped it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import sha256, strict_json
from boursomatic_assets.errors import StaleInputError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.recorded import DATA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.dataset.experiment import Experiment

# Metadata key of the stamp in a Parquet file.
STAMP = "boursomatic"


def stamp_for(asset: str, experiment: Experiment) -> dict[str, Any]:
    """Stamp of an asset under this experiment."""
    return {"asset": asset, "experiment": experiment.part_for(asset)}


def refuse_stale(asset: str, stamp: Mapping[str, Any], experiment: Experiment) -> None:
    """Stop if an asset was built under another experiment; raises StaleInputError, which names each difference."""
    stored, wanted = stamp["experiment"], experiment.part_for(asset)
    if stored == wanted:
        return
    changes = "".join(
        f"\n  {name}: {stored.get(name)!r} -> {wanted.get(name)!r}"
        for name in sorted(set(stored) | set(wanted))
        if stored.get(name) != wanted.get(name)
    )
    message = (
        f"{asset} was built under another experiment than the one in use:{changes}\n"
        f"Materialize it again, with what follows from it: boursomatic materialize --select '{asset}+'"
    )
    raise StaleInputError(message)


def to_parquet(frame: pl.DataFrame, stamp: Mapping[str, Any]) -> bytes:
    """Write Parquet with the stamp in its key-value metadata."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="lz4", metadata={STAMP: json.dumps(stamp)})
    return buffer.getvalue()


def from_parquet(
    content: bytes, asset: str, columns: Sequence[str] | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read Parquet, or some of its columns, and its stamp; raises TamperedArtifactError for damaged bytes."""
    try:
        stamp = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[STAMP])
        return pl.read_parquet(io.BytesIO(content), columns=list(columns) if columns else None), stamp
    except (pl.exceptions.PolarsError, KeyError, ValueError, OSError) as error:
        message = (
            f"the stored asset {asset} is truncated or damaged ({len(content)} bytes): {error}.\n"
            f"Materialize it again: boursomatic materialize --select {asset}"
        )
        raise TamperedArtifactError(message) from error


def panel_version(content: bytes, asset: str) -> dict[str, str]:
    """The version of the content of a Parquet file; raises as `from_parquet`."""
    return {DATA_VERSION: fingerprint(from_parquet(content, asset)[0])}


def to_json(value: Mapping[str, Any], stamp: Mapping[str, Any]) -> bytes:
    """Write strict JSON of the value beside its stamp."""
    return strict_json({"stamp": stamp, "value": value})


def from_json(content: bytes, asset: str) -> tuple[Any, dict[str, Any]]:
    """Read figures and their stamp; raises TamperedArtifactError for damaged bytes."""
    try:
        stored = json.loads(content)
        return stored["value"], stored["stamp"]
    except (ValueError, KeyError, TypeError) as error:
        message = (
            f"the stored asset {asset} is damaged: {error}.\n"
            f"Materialize it again: boursomatic materialize --select {asset}"
        )
        raise TamperedArtifactError(message) from error


def figures_version(content: bytes, asset: str) -> dict[str, str]:
    """The version of figures in a file; raises as `from_json`."""
    return {DATA_VERSION: sha256(strict_json(from_json(content, asset)[0]))}
