"""Currencies, adjustments, unexplained jumps, the log of fetching, and a view of adjusted bars.

Only adds: a nullable column, and tables and a view of the platform's own.
"""

import sqlalchemy as sa
from alembic import op

from boursomatic_assets.storage.postgres.migrations import moment, refuse_downgrade
from boursomatic_assets.storage.postgres.tables import DAILY, KEYS

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.add_column("instruments", sa.Column("currency", sa.String(3)), if_not_exists=True)
    _create_adjustments()
    _create_fetch_log()
    op.create_table(
        "feature_state",
        sa.Column("symbol", sa.Text(), primary_key=True),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        moment("computed_at"),
        if_not_exists=True,
    )
    op.execute(_ADJUSTED_BARS)


def _create_adjustments() -> None:
    op.create_table(
        "adjustments",
        sa.Column("symbol", sa.Text(), primary_key=True),
        sa.Column("session", sa.Date(), primary_key=True),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("note", sa.Text()),
        moment("created_at"),
        sa.CheckConstraint("ratio > 0 AND ratio < 'Infinity'", name="adjustments_ratio_is_positive"),
        if_not_exists=True,
    )
    op.create_table(
        "unexplained_jumps",
        sa.Column("symbol", sa.Text(), primary_key=True),
        sa.Column("session", sa.Date(), primary_key=True),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("split_ratio", sa.Double(), nullable=False),
        moment("detected_at"),
        if_not_exists=True,
    )


def _create_fetch_log() -> None:
    op.create_table(
        "fetch_rounds",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        moment("started_at"),
        sa.Column("finished_at", sa.DateTime()),
        if_not_exists=True,
    )
    op.create_table(
        "fetch_results",
        sa.Column("round_id", sa.BigInteger(), sa.ForeignKey("fetch_rounds.id"), primary_key=True),
        sa.Column("symbol", sa.Text(), primary_key=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.Date()),
        sa.Column("last", sa.Date()),
        sa.Column("detail", sa.Text(), nullable=False),
        moment("fetched_at"),
        if_not_exists=True,
    )


# The bars as features and labels see their prices, for readers of the database.
_ADJUSTED_BARS = f"""
    CREATE OR REPLACE VIEW adjusted_bars AS
    WITH {KEYS}
    SELECT k.symbol, b.ts::date AS session, b.o * f.factor AS open, b.h * f.factor AS high,
           b.l * f.factor AS low, b.c * f.factor AS close, b.v / f.factor AS volume,
           EXISTS (SELECT FROM unexplained_jumps j WHERE j.symbol = k.symbol AND NOT EXISTS (
               SELECT FROM adjustments a WHERE a.symbol = j.symbol AND a.session = j.session)) AS is_quarantined
    FROM price_bars b
    JOIN keys k ON k.id = b.instrument_id
    CROSS JOIN LATERAL (
        SELECT coalesce(exp(sum(ln(a.ratio))), 1) AS factor
        FROM adjustments a WHERE a.symbol = k.symbol AND a.session > b.ts::date) f
    WHERE b.interval = '{DAILY}'
"""  # noqa: S608 (nothing of it comes from outside)
