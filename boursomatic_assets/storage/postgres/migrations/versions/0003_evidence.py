"""Universe memberships and the ledger of trials.

Only adds tables of the platform's own.
"""

import sqlalchemy as sa
from alembic import op

from boursomatic_assets.storage.postgres.migrations import moment, refuse_downgrade

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.create_table(
        "universe_members",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("member_from", sa.Date(), primary_key=True),
        # The first session at which it no longer belongs; empty while it does.
        sa.Column("member_until", sa.Date()),
        moment("created_at"),
        sa.CheckConstraint("member_until > member_from", name="universe_members_end_after_their_start"),
        if_not_exists=True,
    )
    _create_trials()


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
        moment("created_at"),
        sa.UniqueConstraint("params_hash", "data_version", name="trials_one_per_params_hash_data_version"),
        if_not_exists=True,
    )
