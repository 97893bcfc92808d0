"""What must hold at every moment, whenever a command was killed; each function returns what does not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import with_derived_inputs
from boursomatic_assets.errors import BoursomaticError
from boursomatic_assets.services.recommending.recommend import open_serving
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.postgres.candidates import read_candidates
from boursomatic_assets.storage.postgres.content import read_content
from boursomatic_assets.storage.postgres.model_events import PRUNED, list_events
from boursomatic_assets.storage.postgres.model_table import active_version, active_versions, list_versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boursomatic_assets.storage.postgres.database import Database

MOST = 10_000
UNTOLD = "is recorded without a bundle, and no event tells of it"
# Tables whose rows are only added, with their keys.
_ADDED = {
    "bar_changes": "id", "model_versions": "version", "model_events": "id", "recommendations": "id",
    "recommendation_outcomes": "recommendation_id", "trials": "id", "instruments": "id",
}  # fmt: skip
_UNIQUE = {
    "price_bars": "instrument_id, ts, interval", "features": "instrument_id, ts", "instruments": "symbol, exchange",
    "model_versions": "version", "recommendation_outcomes": "recommendation_id",
    "recommendations": "CASE WHEN is_active THEN '' ELSE id::text END, instrument_id, profile",
}  # fmt: skip
_CURRENT = "SELECT symbol, profile, label, confidence, session, version FROM current_recommendations"


@dataclass(frozen=True)
class Stored:
    """What a database holds.

    `rows` are the keys of rows that are only added, by table. `contents` are those of `read_content` by table and
    symbol, and the current recommendations by symbol. `active` is the active version.
    """

    rows: Mapping[str, frozenset[str]]
    contents: Mapping[str, Mapping[str, object]]
    active: str | None

    @classmethod
    def read(cls, database: Database) -> Stored:
        """Read it."""
        rows = {
            table: frozenset(database.read(f"SELECT {key}::text AS key FROM {table}")["key"])  # noqa: S608 (constants)
            for table, key in _ADDED.items()
        }
        contents: dict[str, Mapping[str, object]] = {
            table: dict(read_content(database, table).select("symbol", "content").iter_rows())
            for table in ("price_bars", "features")
        }
        # All current recommendations change in one transaction.
        contents["current_recommendations"] = {"all": frozenset(database.read(_CURRENT).iter_rows())}
        active = active_version(database)
        return cls(rows, contents, active.version if active else None)


def lost(before: Stored, after: Stored) -> list[str]:
    """Rows that are no longer there."""
    gone = {table: keys - after.rows[table] for table, keys in before.rows.items()}
    symbols = {table: set(before.contents[table]) - set(after.contents[table]) for table in before.contents}
    return [f"{len(keys)} rows of {table} are lost" for table, keys in (gone | symbols).items() if keys]


def half_done(before: Stored, between: Stored, after: Stored) -> list[str]:
    """Symbols whose rows were neither as before the command nor as after it."""
    return [
        f"{symbol} in {table} was half done"
        for table, contents in between.contents.items()
        for symbol, found in contents.items()
        if found not in (before.contents[table].get(symbol), after.contents[table].get(symbol))
    ]


def twice(database: Database) -> list[str]:
    """Rows that exist twice."""
    counts = {
        table: database.value(
            f"SELECT count(*) FROM (SELECT FROM {table} GROUP BY {key} HAVING count(*) > 1) found"  # noqa: S608
        )
        for table, key in _UNIQUE.items()
    }
    return [f"{count} rows of {table} exist twice" for table, count in counts.items() if count]


def digests(database: Database) -> dict[str, str]:
    """Digest of all rows of each table of the platform."""
    tables = database.read("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        table: database.value(
            f"SELECT count(*) || ' ' || coalesce(md5(string_agg(row, '' ORDER BY row)), '') "  # noqa: S608
            f"FROM (SELECT md5(t::text) AS row FROM {table} t) rows"
        )
        for table in tables["tablename"]
    }


def broken_files(artifacts: Path) -> list[str]:
    """Files under a final name that cannot be read to their end."""
    broken = []
    for path in sorted(artifacts.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(artifacts).parts):
            try:
                _read_whole(path)
            except (OSError, ValueError, zipfile.BadZipFile, pl.exceptions.PolarsError) as error:
                broken.append(f"{path.name} is not whole: {error}")
    return broken


def _read_whole(path: Path) -> None:
    match path.suffix:
        case ".parquet":
            pl.read_parquet(path)
        case ".json":
            json.loads(path.read_bytes())
        case ".zip" if (name := zipfile.ZipFile(path).testzip()) is not None:
            raise ValueError(name)
        case ".html" if not path.read_bytes().endswith(b"</body></html>\n"):
            raise ValueError


def bundles_in(models: Path) -> list[Path]:
    """Folders that readers find by a version's name."""
    return [path for path in sorted(models.iterdir()) if not path.name.startswith(".")]


def pruned_versions(database: Database) -> set[str]:
    """Versions of which an event says that their bundle was removed."""
    return {event.version_from for event in list_events(database) if event.event == PRUNED and event.version_from}


def broken_models(database: Database, models: Path) -> list[str]:
    """Broken guarantees."""
    broken, recorded = [], {row.version: row.manifest_sha256 for row in list_versions(database, MOST)}
    if len(active := active_versions(database)) != 1:
        broken.append(f"{len(active)} versions are active")
    folders = bundles_in(models)
    absent = set(recorded) - {folder.name for folder in folders} - pruned_versions(database)
    broken += [f"{version} {UNTOLD}" for version in absent]
    for folder in folders:
        try:
            bundle = open_bundle(str(folder), recorded.get(folder.name))
        except BoursomaticError as error:
            broken.append(f"{folder.name} is not whole: {error}")
        else:
            if bundle.manifest.version != folder.name:
                broken.append(f"{folder.name} says that it is {bundle.manifest.version}")
    try:
        broken += _broken_serving(database)
    except BoursomaticError as error:
        broken.append(f"the active version cannot be served: {error}")
    return broken


def _broken_serving(database: Database) -> list[str]:
    """Predict with the active version on the newest features."""
    row = active_version(database)
    if row is None:
        return ["no version is active"]
    serving, candidates = open_serving(row), with_derived_inputs(read_candidates(database))
    rows = candidates.drop_nulls(list(serving.regressor.feature_names))
    predicted = serving.regressor.predict(rows)
    if rows.is_empty() or not pl.Series(predicted).is_finite().all():
        return [f"the active version predicts {predicted} on {rows.height} rows"]
    return []


def holds_bars(database: Database, expected: pl.DataFrame) -> bool:
    """Whether the stored bars are exactly the expected ones."""
    stored = database.read(
        "SELECT i.symbol, b.ts::date AS session, b.o AS open, b.h AS high, b.l AS low, b.c AS close, "
        "b.v AS volume FROM price_bars b JOIN instruments i ON i.id = b.instrument_id"
    )
    return _sorted(stored).equals(_sorted(expected))


def _sorted(bars: pl.DataFrame) -> pl.DataFrame:
    columns = ("symbol", "session", "open", "high", "low", "close", "volume")
    return bars.select(columns).sort("symbol", "session")


def unpruned(database: Database, models: Path) -> list[str]:
    """Bundles without a row, and hidden remains."""
    recorded = {row.version for row in list_versions(database, MOST)}
    return [
        f"{path.name} was left behind by the next prune" for path in models.iterdir() if path.name not in recorded
    ]
