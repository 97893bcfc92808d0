"""What evidence needs: who belonged to the universe when, and every training that was tried on the same data.

Only adds tables of the platform's own.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.create_table(
        "universe_members",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("member_from", sa.Date(), primary_key=True),
        # The first session at which it no longer belongs; empty while it does.
        sa.Column("member_until", sa.Date()),
        _stamp("created_at"),
        sa.CheckConstraint("member_until > member_from", name="universe_members_end_after_their_start"),
        if_not_exists=True,
    )
    _create_trials()


def downgrade() -> None:
    """Refuse: people's memberships and the record of trials live in these tables."""
    message = "the platform's migrations only add; restore a backup to go back"
    raise RuntimeError(message)


def _stamp(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(), nullable=False, server_default=sa.text("timezone('utc', now())"))


def _create_trials() -> None:
    sessions = ("first_session", "last_session", "test_first", "test_last")
    # The Sharpe ratio is per session, not annualised: the deflated one is computed from these.
    figures = ("sharpe", "rank_ic", "matched_lift", "accuracy")
    op.create_table(
        "trials",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("params_hash", sa.String(64), nullable=False),
        sa.Column("experiment", sa.JSON(), nullable=False),
        sa.Column("data_version", sa.String(64), nullable=False),
        sa.Column("symbols", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Date(), nullable=False) for name in sessions),
        *(sa.Column(name, sa.Double()) for name in figures),
        sa.Column("version", sa.String()),
        sa.Column("run_id", sa.String()),
        _stamp("created_at"),
        sa.UniqueConstraint("params_hash", "data_version", name="trials_one_per_params_hash_data_version"),
        if_not_exists=True,
    )
