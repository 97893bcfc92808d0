"""Bundles that verify, of a model as small as can be, with a row that names each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from boursomatic_assets.core.registry.bundle import BUNDLE_FILES, MANIFEST, sha256, strict_json
from boursomatic_assets.errors import ActiveModelChangedError
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.artifacts.files import write_folder
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, record_version

if TYPE_CHECKING:
    from upath import UPath

    from boursomatic_assets.storage.postgres.database import Database

MOMENT = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (UTC, as the table keeps it)


def save_small(root: UPath, number: int, snapshot: str | None = None, closes: str | None = None) -> ModelRow:
    """Store the bundle of version `v<number>`, whose files hold nothing but their names."""
    files = {name: name.encode() for name in BUNDLE_FILES}
    manifest = {
        "version": f"v{number}",
        **({} if snapshot is None else {"snapshot": {"fingerprint": snapshot}}),
        **({} if closes is None else {"snapshot_of_closes": {"fingerprint": closes}}),
        "files": {name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()},
    }
    content, folder = strict_json(manifest), root / "models" / f"v{number}"
    write_folder(folder, {**files, MANIFEST: content})
    trained_at = MOMENT + timedelta(seconds=number)
    return ModelRow(f"v{number}", trained_at, "p" * 64, {"test_accuracy": 0.5}, str(folder), sha256(content))


def whole(row: ModelRow) -> None:
    """Raise unless the bundle is what was recorded."""
    open_bundle(row.model_path, row.manifest_sha256)


def record(database: Database, row: ModelRow, champion: str | None, why: str = "a test") -> None:
    record_version(database, row, who="tester", why=why, champion=champion)


def replacing(database: Database, row: ModelRow) -> str | None:
    """Record a version in the place of the active one, deciding again until no other version came between."""
    while True:
        active = active_version(database)
        champion = None if active is None else active.version
        try:
            record(database, row, champion)
        except ActiveModelChangedError:
            continue
        return champion
