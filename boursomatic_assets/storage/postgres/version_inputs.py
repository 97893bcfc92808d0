"""Model inputs of recorded versions, from the ledger of trials or the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.core.dataset.features import price_level_inputs
from boursomatic_assets.core.registry.bundle import MANIFEST, sha256
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import ModelRow

_TRIED = sa.text("SELECT params_hash, experiment FROM trials WHERE params_hash = ANY(:hashes)")


def price_levels_read(database: Database, rows: Sequence[ModelRow]) -> dict[str, list[str]]:
    """Inputs in units of price, by version; versions without such an input are left out.

    A version's inputs are those of its experiment in the ledger of trials, else those of its manifest. A version
    with neither is left out.
    """
    with database.connection() as connection:
        tried = connection.execute(_TRIED, {"hashes": [row.params_hash for row in rows]})
        inputs = {params_hash: experiment.get("features", []) for params_hash, experiment in tried}
    found = {row.version: price_level_inputs(inputs.get(row.params_hash) or _of_manifest(row)) for row in rows}
    return {version: levels for version, levels in found.items() if levels}


def _of_manifest(row: ModelRow) -> list[str]:
    """Inputs named by a bundle's manifest; none if it is missing or differs from its recorded digest."""
    if not row.model_path or row.manifest_sha256 is None:
        return []
    try:
        content = (UPath(row.model_path) / MANIFEST).read_bytes()
    except OSError:
        return []
    if sha256(content) != row.manifest_sha256:
        return []
    return [str(name) for name in json.loads(content).get("feature_names", [])]
