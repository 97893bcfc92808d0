"""The outbox of failure notices, and the ended runs that were checked for them.

Only adds tables of the platform's own.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from boursomatic_assets.storage.postgres.migrations import moment, refuse_downgrade

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    _create_notices()
    op.create_table(
        "noticed_runs",
        # A new instance counts its events from one again.
        sa.Column("instance_id", sa.Text(), primary_key=True),
        sa.Column("event_id", sa.BigInteger(), primary_key=True),
        # Empty for the event after which runs are checked.
        sa.Column("run_id", sa.Text()),
        moment("noticed_at"),
        if_not_exists=True,
    )


def _create_notices() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        # What has to succeed before a failure is over.
        sa.Column("awaiting", postgresql.JSONB(), nullable=False, server_default=sa.text("'[]'")),
        sa.Column("times", sa.Integer(), nullable=False, server_default=sa.text("1")),
        moment("created_at"),
        sa.Column("recovered_at", sa.DateTime()),
        # Each channel it is for, with the moment at which the channel took it, or null.
        sa.Column("delivered", postgresql.JSONB(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        # Null once every channel has taken it.
        sa.Column("next_attempt_at", sa.DateTime(), server_default=sa.text("timezone('utc', now())")),
        # A sender that died holds a message no longer than this.
        sa.Column("claimed_until", sa.DateTime()),
        sa.Column("last_error", sa.Text()),
        sa.CheckConstraint("kind IN ('failure', 'recovery')", name="notices_kind"),
        if_not_exists=True,
    )
    # Whatever else goes wrong: the same cause on the same asset is one message until it recovers.
    op.create_index(
        "notices_one_open_failure_by_key",
        "notices",
        ["key"],
        unique=True,
        postgresql_where=sa.text("kind = 'failure' AND recovered_at IS NULL"),
        if_not_exists=True,
    )
    op.create_index(
        "notices_to_deliver",
        "notices",
        ["asset", "id"],
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
        if_not_exists=True,
    )
