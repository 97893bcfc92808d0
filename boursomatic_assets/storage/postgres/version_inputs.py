"""What recorded model versions read, without opening their bundles where the ledger of trials says it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.dataset.features import price_level_inputs
from boursomatic_assets.core.registry.bundle import MANIFEST, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.model_table import ModelRow

_TRIED = sa.text("SELECT params_hash, experiment FROM trials WHERE params_hash = ANY(:hashes)")


def price_levels_read(database: Database, rows: Sequence[ModelRow]) -> dict[str, list[str]]:
    """Inputs in units of price, by the version that reads them; versions that read none are left out.

    Parameters
    ----------
    database : Database
    rows : sequence of ModelRow

    Notes
    -----
    A version's inputs are those of its experiment in the ledger of trials, which its hash names; where it has no
    trial, those of its manifest. Nothing is said of a version with neither.
    """
    with database.connection() as connection:
        tried = connection.execute(_TRIED, {"hashes": [row.params_hash for row in rows]})
        inputs = {params_hash: experiment.get("features", []) for params_hash, experiment in tried}
    found = {row.version: price_level_inputs(inputs.get(row.params_hash) or _of_manifest(row)) for row in rows}
    return {version: levels for version, levels in found.items() if levels}


def _of_manifest(row: ModelRow) -> list[str]:
    """Inputs that the manifest of a bundle names; none where it is gone, or is not what was recorded."""
    if not row.model_path or row.manifest_sha256 is None:
        return []
    try:
        content = (UPath(row.model_path) / MANIFEST).read_bytes()
    except OSError:
        return []
    if sha256(content) != row.manifest_sha256:
        return []
    return [str(name) for name in json.loads(content).get("feature_names", [])]
