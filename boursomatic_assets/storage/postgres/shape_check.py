"""Properties of the tables that keep this program from reading and writing exact values, each with its remedy.

Other programs may have created or changed the tables. Their triggers, checks and foreign keys are not examined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from boursomatic_assets.storage.postgres.derived import TRIGGERS, VIEWS, missing_triggers
from boursomatic_assets.storage.postgres.shapes import SHAPES, UNIQUE, UNIQUE_WHILE_ACTIVE, Column, holds
from boursomatic_assets.storage.postgres.tables import NOW, VERSION_TABLE

# The version table too: a shadow of it hides the revision.
_TABLES = """
    SELECT wanted.name, c.oid, n.nspname AS namespace, format('%I.%I', n.nspname, wanted.name) AS shown,
        c.relkind::text AS kind, row_security_active(c.oid) AS hides_rows,
        ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = c.oid) AS rules,
        ARRAY(SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = c.oid) AS children,
        ARRAY(SELECT other.nspname::text FROM pg_class s JOIN pg_namespace other ON other.oid = s.relnamespace
              WHERE s.relname = wanted.name AND s.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND other.nspname = ANY (current_schemas(false)) ORDER BY 1) AS namespaces,
        ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND tgenabled IN ('D', 'R')) AS disabled
    FROM unnest(CAST(:names AS text[])) AS wanted (name)
    JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name)) JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_COLUMNS = """
    SELECT a.attrelid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
        a.attnotnull OR t.typnotnull AS is_never_null, t.typnotnull AS is_strict_domain,
        a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default,
        a.attgenerated::text AS generated, coalesce(NOT c.collisdeterministic, false) AS is_loosely_compared
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = ANY (CAST(:tables AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
"""
# Not those that PostgreSQL cannot use for ON CONFLICT: deferrable, of expressions, or not built to the end.
_UNIQUE = """
    SELECT i.indrelid, i.indexrelid::regclass::text AS name,
        (SELECT quote_ident(conname) FROM pg_constraint
         WHERE conindid = i.indexrelid AND contype = 'u') AS constraint,
        coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS condition,
        array_agg(a.attname::text ORDER BY a.attname) AS columns
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = ANY (CAST(:tables AS oid[]))
        AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indexprs IS NULL AND i.indnkeyatts = i.indnatts
    GROUP BY i.indexrelid
"""
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "partitioned"}


@dataclass(frozen=True)
class Problem:
    """What is in the way, and the statement that mends it; empty where none does."""

    what: str
    statement: str = ""

    def __str__(self) -> str:
        return f"  {self.what}" + (f"\n    {self.statement};" if self.statement else "")


def find_problems(connection: Connection, *, is_upgraded: bool) -> list[Problem]:
    """Problems of the existing tables. Before an upgrade, what the upgrade adds may be missing."""
    tables = _mappings(connection, _TABLES, names=[*SHAPES, VERSION_TABLE])
    keys = [table["oid"] for table in tables]
    columns = _by_table(_mappings(connection, _COLUMNS, tables=keys), "attrelid")
    unique = _by_table(_mappings(connection, _UNIQUE, tables=keys), "indrelid")
    problems = [*_session_problems(connection), *_place_problems(tables)]
    if is_upgraded:
        problems += (Problem(f"price_bars lacks the trigger {name}") for name in missing_triggers(connection))
    for table in (table for table in tables if table["name"] in SHAPES):
        of_table = list(_kind_problems(table)) or [
            *_row_problems(table),
            *_column_problems(table, columns.get(table["oid"], []), is_upgraded=is_upgraded),
            *(_unique_problems(table, unique.get(table["oid"], [])) if is_upgraded else ()),
        ]
        problems += of_table
    if any(" TYPE " in problem.statement for problem in problems):
        problems = [*_view_problems(connection), *problems]
    return problems


def _mappings(connection: Connection, query: str, **parameters: Sequence[object]) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(query), parameters).mappings()]


def _by_table(rows: list[Mapping[str, Any]], key: str) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _session_problems(connection: Connection) -> Iterator[Problem]:
    if connection.execute(sa.text("SHOW session_replication_role")).scalar() != "origin":
        yield Problem(
            "session_replication_role is not origin: triggers and foreign keys are off",
            "ALTER ROLE CURRENT_USER RESET session_replication_role",
        )


def _place_problems(tables: list[Mapping[str, Any]]) -> Iterator[Problem]:
    hidden = [table for table in tables if len(table["namespaces"]) > 1]
    for table in hidden:
        yield Problem(
            f"{table['name']} exists in several schemas of search_path: {', '.join(table['namespaces'])}. Keep "
            "one, or name one schema: ALTER ROLE … IN DATABASE … SET search_path"
        )
    used = ", ".join(sorted({table["namespace"] for table in tables}))
    if not hidden and ", " in used:
        yield Problem(f"the tables lie in several schemas: {used}. Move them into one: ALTER TABLE … SET SCHEMA")


def _kind_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    if table["kind"] in _KINDS:
        yield Problem(
            f"{table['name']} is {_KINDS[table['kind']]}, expected an ordinary table. Rename it, or name another "
            "database: DATABASE_URL"
        )


def _row_problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    name, shown = table["name"], table["shown"]
    if table["hides_rows"]:
        yield Problem(
            f"{name}: row-level security hides rows from this login",
            f"ALTER TABLE {shown} DISABLE ROW LEVEL SECURITY",
        )
    for rule in table["rules"]:
        yield Problem(f"{name}: the rule {rule} changes what is written", f'DROP RULE "{rule}" ON {shown}')
    for child in table["children"]:
        yield Problem(f"{name}: rows of {child} count as its own", f"ALTER TABLE {child} NO INHERIT {shown}")
    for trigger in sorted(set(TRIGGERS) & set(table["disabled"])):
        yield Problem(f"{name}: the trigger {trigger} is disabled", f"ALTER TABLE {shown} ENABLE TRIGGER {trigger}")


def _column_problems(
    table: Mapping[str, Any], columns: list[Mapping[str, Any]], *, is_upgraded: bool
) -> Iterator[Problem]:
    found, wanted = {column["name"]: column for column in columns}, SHAPES[table["name"]]
    missing = sorted(name for name in wanted if name not in found and (is_upgraded or not wanted[name].is_later))
    if missing:
        yield Problem(
            f"table {table['name']} was there before and lacks columns {missing}: it is not the table this program "
            "knows. Name another database: DATABASE_URL"
        )
        return
    for name, column in found.items():
        if name in wanted:
            yield from _known_column_problems(table, column, wanted[name])
        elif column["is_never_null"] and not column["has_default"] and not column["generated"]:
            alter = f"ALTER DOMAIN {column['type']}" if column["is_strict_domain"] else _alter(table, name)
            yield Problem(
                f"{table['name']}.{name} is another program's, NOT NULL and without default: inserts fail",
                f"{alter} DROP NOT NULL",
            )


def _known_column_problems(table: Mapping[str, Any], found: Mapping[str, Any], wanted: Column) -> Iterator[Problem]:
    shown, alter = f"{table['name']}.{found['name']}", _alter(table, found["name"])
    if found["generated"]:
        yield Problem(f"{shown} is generated, so it cannot be written", _ungenerate(table, found, wanted))
        return
    if not holds(found["type"], wanted.types):
        yield _type_problem(shown, alter, found, wanted)
    elif found["is_loosely_compared"]:
        yield Problem(
            f"{shown}: its collation takes different texts for equal",
            f'{alter} TYPE {wanted.types[0]} COLLATE "default"',
        )
    if wanted.nulls is True and found["is_never_null"]:
        yield Problem(f"{shown} is NOT NULL, and this program writes nulls", f"{alter} DROP NOT NULL")
    if wanted.nulls is False and not found["is_never_null"]:
        yield Problem(f"{shown} may be null, expected NOT NULL", f"{alter} SET NOT NULL")
    if wanted.needs_default and not found["has_default"]:
        yield Problem(f"{shown} has no default", f"{alter} {_default(found['name'], wanted)}")


def _ungenerate(table: Mapping[str, Any], found: Mapping[str, Any], wanted: Column) -> str:
    if found["generated"] == "s":
        return f"{_alter(table, found['name'])} DROP EXPRESSION"
    # A virtual column has no values to keep.
    alter, name = f"ALTER TABLE {table['shown']}", found["name"]
    renamed = f'{alter} RENAME COLUMN "{name}" TO "{name}_generated"; {alter} ADD COLUMN "{name}" {wanted.types[0]}'
    return f'{renamed}; UPDATE {table["shown"]} SET "{name}" = "{name}_generated"'  # noqa: S608 (shown, not run)


def _type_problem(shown: str, alter: str, found: Mapping[str, Any], wanted: Column) -> Problem:
    name, kind = f'"{found["name"]}"', wanted.types[0]
    using, remark = f"{name}::{kind}", ""
    if kind == "timestamp" and found["type"].endswith("with time zone"):
        # A bar's day is lost if its midnight was another zone's.
        using, remark = f"{name} AT TIME ZONE 'UTC'", "; if its midnights are of another zone, name that zone"
    return Problem(f"{shown} is {found['type']}, expected {kind}{remark}", f"{alter} TYPE {kind} USING {using}")


def _default(name: str, wanted: Column) -> str:
    if wanted.types == ("bigint",):
        return "ADD GENERATED BY DEFAULT AS IDENTITY"
    values = {"awaiting": "'[]'", "times": "1", "attempts": "0"}
    return f"SET DEFAULT {values.get(name, NOW)}"


def _unique_problems(table: Mapping[str, Any], indexes: list[Mapping[str, Any]]) -> Iterator[Problem]:
    name, shown = table["name"], table["shown"]
    key, of_all_rows = UNIQUE.get(name, ()), [index for index in indexes if not index["condition"]]
    if key and not any(set(index["columns"]) == set(key) for index in of_all_rows):
        columns = ", ".join(key)
        yield Problem(
            f"{name} has no unique key ({columns}) that upserts can use",
            f"CREATE UNIQUE INDEX ON {shown} ({columns})",
        )
    for index in of_all_rows:
        # Of rows that are not active there are many.
        if set(index["columns"]) <= set(UNIQUE_WHILE_ACTIVE.get(name, ())):
            named = index["constraint"]
            drop = f"ALTER TABLE {shown} DROP CONSTRAINT {named}" if named else f"DROP INDEX {index['name']}"
            yield Problem(f"{name}: {named or index['name']} allows one row, active or not", drop)


def _view_problems(connection: Connection) -> Iterator[Problem]:
    known = sa.text("SELECT to_regclass(name)::text FROM unnest(CAST(:names AS text[])) AS name")
    if views := [name for name in connection.execute(known, {"names": list(VIEWS)}).scalars() if name]:
        yield Problem(
            "views read columns whose type changes below; the upgrade makes them again",
            f"DROP VIEW {', '.join(sorted(views))}",
        )


def _alter(table: Mapping[str, Any], column: str) -> str:
    return f'ALTER TABLE {table["shown"]} ALTER COLUMN "{column}"'
