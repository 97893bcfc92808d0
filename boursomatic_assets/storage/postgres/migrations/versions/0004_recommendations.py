"""Outcomes, the record of rewritten bars, and a view of current recommendations.

Adds two nullable columns and an index to `recommendations`, two tables and a view of the platform's own, and two
triggers on `price_bars`. They write to `bar_changes` what an update or a delete replaces, whoever makes it; inserts
do not meet them. `TRUNCATE` meets them neither: what it removes is gone.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from boursomatic_assets.storage.postgres.derived import CURRENT_RECOMMENDATIONS, create_triggers
from boursomatic_assets.storage.postgres.migrations import refuse_downgrade

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.add_column("recommendations", sa.Column("session", sa.Date()), if_not_exists=True)
    op.add_column("recommendations", sa.Column("archived_at", sa.DateTime()), if_not_exists=True)
    op.create_index(
        "recommendations_by_instrument_id_profile_generated_at",
        "recommendations",
        ["instrument_id", "profile", "generated_at"],
        if_not_exists=True,
    )
    _create_outcomes()
    _create_bar_changes()
    create_triggers(op.get_bind())
    op.execute(CURRENT_RECOMMENDATIONS)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _create_outcomes() -> None:
    op.create_table(
        "recommendation_outcomes",
        sa.Column("recommendation_id", postgresql.UUID(), sa.ForeignKey("recommendations.id"), primary_key=True),
        sa.Column("entry_session", sa.Date(), nullable=False),
        _number("entry_close"),
        sa.Column("exit_session", sa.Date(), nullable=False),
        _number("exit_close"),
        _number("realised_return"),
        sa.Column("realised_label", sa.String(10), nullable=False),
        sa.Column("hit", sa.Boolean(), nullable=False),
        sa.Column("first_touch", sa.String(10)),
        sa.Column("touched_session", sa.Date()),
        sa.Column("ended", sa.String(20), nullable=False),
        sa.Column("judged_at", sa.DateTime(), nullable=False, server_default=sa.text("timezone('utc', now())")),
        sa.CheckConstraint("exit_session >= entry_session", name="recommendation_outcomes_exit_after_entry"),
        sa.CheckConstraint(
            "(first_touch IS NULL) = (touched_session IS NULL)",
            name="recommendation_outcomes_touch_has_its_session",
        ),
        if_not_exists=True,
    )


def _create_bar_changes() -> None:
    """Make the table of what was replaced.

    It takes every value that `price_bars` can hold, null too, and refers to nothing: a record must never be the
    reason for which another program's write is refused.
    """
    op.create_table(
        "bar_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("bar_id", postgresql.UUID()),
        sa.Column("instrument_id", postgresql.UUID()),
        sa.Column("ts", sa.DateTime()),
        sa.Column("interval", sa.Text()),
        *(_number(name, nullable=True) for name in ("o", "h", "l", "c", "v")),
        sa.Column("bar_created_at", sa.DateTime()),
        sa.Column("operation", sa.String(10), nullable=False),
        # Not now(): of two changes in one transaction it must be known which came first.
        sa.Column(
            "changed_at",
            sa.DateTime(),
            nullable=False,
            server_default=sa.text("timezone('utc', clock_timestamp())"),
        ),
        if_not_exists=True,
    )
    for columns in (["instrument_id", "ts"], ["bar_id"]):
        op.create_index(f"bar_changes_by_{'_'.join(columns)}", "bar_changes", columns, if_not_exists=True)
