"""The tables that the web application reads, where they are missing, and the platform's own beside them.

Only creates and adds. Two rules are added for every writer: at most one active model version, and at most
one active recommendation per instrument and profile. Rows that already break a rule stop the migration.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from boursomatic_assets.errors import RowsBreakRuleError
from boursomatic_assets.storage.postgres.migrations import moment, refuse_downgrade
from boursomatic_assets.storage.postgres.tables import FIRST_FEATURES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
downgrade = refuse_downgrade

ROWS_IN_A_MESSAGE = 10


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    _create_tables()
    op.add_column("model_versions", sa.Column("manifest_sha256", sa.String(64)), if_not_exists=True)
    _create_rejected_bars()
    _add_rules()


def _id() -> sa.Column[Any]:
    return sa.Column("id", postgresql.UUID(), primary_key=True)


def _reference(table: str, column: str) -> sa.Column[Any]:
    return sa.Column(column, postgresql.UUID(), sa.ForeignKey(f"{table}.id"), nullable=False)


def _number(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _flag(name: str, default: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.text(default))


def _create_tables() -> None:
    op.create_table(
        "instruments",
        _id(),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("name", sa.String(255)),
        sa.Column("sector", sa.String(100)),
        sa.Column("market_cap_bucket", sa.String(50)),
        sa.Column("pe_bucket", sa.String(50)),
        _flag("is_active", "true"),
        moment("created_at"),
        moment("updated_at"),
        if_not_exists=True,
    )
    op.create_table(
        "price_bars",
        _id(),
        _reference("instruments", "instrument_id"),
        sa.Column("ts", sa.DateTime(), nullable=False),
        *(_number(name, nullable=False) for name in ("o", "h", "l", "c", "v")),
        sa.Column("interval", sa.String(10), nullable=False),
        moment("created_at"),
        if_not_exists=True,
    )
    op.create_table(
        "features",
        _id(),
        _reference("instruments", "instrument_id"),
        sa.Column("ts", sa.DateTime(), nullable=False),
        *map(_number, FIRST_FEATURES),
        sa.Column("additional_features", sa.JSON()),
        moment("created_at"),
        if_not_exists=True,
    )
    op.create_table(
        "model_versions",
        _id(),
        sa.Column("version", sa.String(100), nullable=False, unique=True),
        moment("trained_at"),
        sa.Column("params_hash", sa.String(64), nullable=False),
        sa.Column("metrics_json", sa.JSON(), nullable=False),
        sa.Column("model_path", sa.String(500)),
        _flag("is_active", "false"),
        moment("created_at"),
        if_not_exists=True,
    )
    op.create_table(
        "recommendations",
        _id(),
        _reference("instruments", "instrument_id"),
        _reference("model_versions", "model_version_id"),
        sa.Column("profile", sa.String(50), nullable=False),
        sa.Column("label", sa.String(10), nullable=False),
        _number("confidence", nullable=False),
        _number("expected_return_pct"),
        sa.Column("horizon_days", sa.Integer()),
        _number("stop_loss"),
        _number("take_profit"),
        sa.Column("justification", sa.Text()),
        sa.Column("features_snapshot", sa.JSON(), nullable=False),
        moment("generated_at"),
        _flag("is_active", "true"),
        if_not_exists=True,
    )


def _create_rejected_bars() -> None:
    """Keep each row that broke the bar contract, as it came, with the reason and how often it came."""
    op.create_table(
        "rejected_bars",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text()),
        sa.Column("session", sa.Date()),
        *map(_number, ("open", "high", "low", "close", "volume")),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("row_hash", sa.String(32), nullable=False, unique=True),
        moment("first_seen_at"),
        moment("last_seen_at"),
        if_not_exists=True,
    )


def _add_rules() -> None:
    _rule("price_bars", ["instrument_id", "ts", "interval"])
    _rule("features", ["instrument_id", "ts"])
    _rule("model_versions", ["is_active"], where="is_active", shown="version")
    _rule("recommendations", ["instrument_id", "profile"], where="is_active")


def _rule(table: str, columns: list[str], where: str = "true", shown: str = "id") -> None:
    """Make `columns` unique among the rows `where` holds, unless a constraint says so already."""
    existing = _unique_column_sets(table) if where == "true" else []
    if set(columns) in existing:
        return
    names = ", ".join(columns)
    broken = (
        op.get_bind()
        .execute(
            sa.text(
                f"SELECT {names}, count(*), string_agg({shown}::text, ', ' ORDER BY {shown}::text) FROM {table} "  # noqa: S608
                f"WHERE {where} GROUP BY {names} HAVING count(*) > 1 ORDER BY {names} LIMIT {ROWS_IN_A_MESSAGE}"
            )
        )
        .all()
    )
    if broken:
        rows = "".join(
            f"\n  {dict(zip(columns, map(str, row), strict=False))}: {row[-2]} rows, {shown} {row[-1]}"
            for row in broken
        )
        condition = "" if where == "true" else f" where {where}"
        message = (
            f"table {table} may hold one row per ({names}){condition}; found more, the first of them:{rows}\n"
            "Nothing was changed. Leave one row of each, then: boursomatic db upgrade"
        )
        raise RowsBreakRuleError(message)
    suffix = "" if where == "true" else "_while_active"
    op.create_index(
        f"{table}_one_per_{'_'.join(columns)}{suffix}",
        table,
        columns,
        unique=True,
        postgresql_where=None if where == "true" else sa.text(where),
        if_not_exists=True,
    )


def _unique_column_sets(table: str) -> list[set[str]]:
    """Sets of columns that a unique index covers whole: for all rows, and without an expression."""
    indexes = sa.text(
        "SELECT array_agg(a.attname::text) FROM pg_index i "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indrelid = to_regclass(:name) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL "
        # ON CONFLICT cannot use others.
        "AND i.indimmediate AND i.indisvalid "
        "GROUP BY i.indexrelid"
    )
    return [set(columns) for columns in op.get_bind().execute(indexes, {"name": table}).scalars()]
