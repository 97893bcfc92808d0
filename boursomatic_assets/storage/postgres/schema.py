"""The schema: upgrade a database to the current one, and check that it has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.errors import SchemaVersionError
from boursomatic_assets.storage.postgres.derived import create_missing
from boursomatic_assets.storage.postgres.reader_role import let_readers_in
from boursomatic_assets.storage.postgres.shape_check import find_problems
from boursomatic_assets.storage.postgres.tables import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

HEAD_REVISION = "0008"
_UPGRADE_LOCK = 0x626F7572


def upgrade(engine: Engine) -> str | None:
    """Upgrade in one transaction; returns the revision found before.

    Raises RowsBreakRuleError, which lists rows that break a rule of the migration, or SchemaVersionError if a newer
    program upgraded the database, or tables of other programs cannot keep what this one writes.
    """
    from alembic import command

    config = migrations()
    with engine.begin() as connection:
        # Concurrent upgrades run one after the other.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
        before = revision(connection)
        _refuse_newer(before)
        # First, so that nothing is changed where they do not fit.
        _require_shapes(connection, is_upgraded=False)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        for name in _missing_features(connection):
            connection.execute(sa.text(f'ALTER TABLE features ADD COLUMN "{name}" double precision'))
        create_missing(connection)
        _require_shapes(connection, is_upgraded=True)
        # At every upgrade: an administrator may have created the role since.
        let_readers_in(connection)
    return before


def migrations() -> Config:
    """Alembic's configuration of our migrations, without a connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "boursomatic_assets:storage/postgres/migrations")
    config.set_main_option("path_separator", "os")
    return config


def is_current(connection: Connection) -> bool:
    """Whether the schema is the current one, with a column for each feature."""
    return revision(connection) == HEAD_REVISION and not _missing_features(connection)


def require_current(connection: Connection) -> None:
    """Raise SchemaVersionError, with the command that helps, unless the schema is current."""
    found = revision(connection)
    _refuse_newer(found)
    if found != HEAD_REVISION:
        said = f"found {found or 'none'}.{_elsewhere(connection)}"
        message = (
            f"the database schema must be at revision {HEAD_REVISION}; {said}\n"
            "Bring it there, existing rows stay as they are: boursomatic db upgrade"
        )
        raise SchemaVersionError(message)
    missing = _missing_features(connection)
    if missing:
        message = (
            f"the table features lacks columns {missing}.\n"
            "Add them, existing rows stay as they are: boursomatic db upgrade"
        )
        raise SchemaVersionError(message)
    _require_shapes(connection, is_upgraded=True)


def revision(connection: Connection) -> str | None:
    """Revision in our version table; None before the first upgrade."""
    if connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE}).scalar() is None:
        return None
    found: str | None = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return found


def _elsewhere(connection: Connection) -> str:
    """Schemas with tables of this program that `search_path` does not name."""
    query = (
        "SELECT relnamespace::regnamespace::text FROM pg_class "
        "WHERE relname = :name AND relkind = 'r' AND NOT pg_table_is_visible(oid)"
    )
    found = list(connection.execute(sa.text(query), {"name": VERSION_TABLE}).scalars())
    return f" search_path does not name {', '.join(found)}, which has such tables." if found else ""


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > HEAD_REVISION:
        message = (
            f"the database schema is at revision {found}, newer than this program's {HEAD_REVISION}. "
            "Install the newer boursomatic-assets, or name another database: DATABASE_URL"
        )
        raise SchemaVersionError(message)


def _missing_features(connection: Connection) -> list[str]:
    """Entries of `FEATURES` without a column in the table, in their order."""
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'features'::regclass AND attnum > 0"
    stored = set(connection.execute(sa.text(columns)).scalars())
    return [name for name in FEATURE_NAMES if name not in stored]


def _require_shapes(connection: Connection, *, is_upgraded: bool) -> None:
    """Raise SchemaVersionError, which lists everything that is in the way with the statements that mend it."""
    problems = find_problems(connection, is_upgraded=is_upgraded)
    if problems:
        message = (
            "tables of this database would not keep what this program writes. Nothing was changed. In the way:\n"
            + "\n".join(map(str, problems))
            + "\nRun the statements as the tables' owner, then: boursomatic db upgrade"
        )
        raise SchemaVersionError(message)
