"""The role `boursomatic_reader`: it may select from the platform's tables and views, and nothing else.

Many servers let only an administrator create a role. Everything works without it; `missing_grants` lists the
statements for the administrator.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from boursomatic_assets.storage.postgres.derived import VIEWS
from boursomatic_assets.storage.postgres.shapes import SHAPES

READER = "boursomatic_reader"
# Without `users` and `user_settings` of the web application.
READABLE = (*SHAPES, *VIEWS)
_CREATE = f"CREATE ROLE {READER} NOLOGIN"

# Concurrent upgrades of two databases of one server may both find it missing.
_CREATE_IF_POSSIBLE = f"""
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN {_CREATE}; END IF;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
        WHEN insufficient_privilege THEN RAISE NOTICE 'role {READER} is for an administrator to create';
    END $$
"""
_GRANT_IF_POSSIBLE = """
    DO $$ BEGIN
        {};
    EXCEPTION
        WHEN insufficient_privilege THEN NULL;
    END $$
"""
_MISSING = f"""
    SELECT format('GRANT USAGE ON SCHEMA %I TO {READER}', current_schema())
    WHERE NOT has_schema_privilege('{READER}', current_schema(), 'USAGE')
    UNION ALL
    SELECT format('GRANT SELECT ON %I.%I TO {READER}', n.nspname, c.relname)
    FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name)) JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT has_table_privilege('{READER}', c.oid, 'SELECT')
"""  # noqa: S608 (nothing of it comes from outside)


def let_readers_in(connection: Connection) -> None:
    """Create the role where possible, and grant it what it cannot read yet."""
    connection.exec_driver_sql(_CREATE_IF_POSSIBLE)
    for statement in missing_grants(connection):
        if statement != _CREATE:
            connection.exec_driver_sql(_GRANT_IF_POSSIBLE.format(statement))


def missing_grants(connection: Connection) -> list[str]:
    """Statements that an administrator has to run before the role can read everything.

    Without the role it is only the one that creates it; the next upgrade does the rest.
    """
    known = sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :name)")
    if not connection.execute(known, {"name": READER}).scalar():
        return [_CREATE]
    return list(connection.execute(sa.text(_MISSING), {"names": list(READABLE)}).scalars())
