"""The gate's decision on each model version, and the log of model events.

Adds a nullable column to `model_versions` and a table of the platform's own. Versions from before have no decision
and no events: each of them was made active when it was recorded.
"""

import sqlalchemy as sa
from alembic import op

from boursomatic_assets.storage.postgres.migrations import refuse_downgrade

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.add_column("model_versions", sa.Column("gate", sa.JSON()), if_not_exists=True)
    op.create_table(
        "model_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        # Not now(): of two events it must be known which came first, also where one waited for the other.
        sa.Column(
            "at", sa.DateTime(), nullable=False, server_default=sa.text("timezone('utc', clock_timestamp())")
        ),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("event", sa.String(20), nullable=False),
        # Names and not references: a log must never be the reason for which another program's delete is refused.
        sa.Column("version_from", sa.String(100)),
        sa.Column("version_to", sa.String(100)),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("figures", sa.JSON()),
        sa.CheckConstraint(
            "event IN ('activated', 'refused', 'rolled back', 'pruned')", name="model_events_known_event"
        ),
        sa.CheckConstraint("(event = 'pruned') = (version_to IS NULL)", name="model_events_to_a_version"),
        if_not_exists=True,
    )
    for column in ("version_from", "version_to"):
        op.create_index(f"model_events_by_{column}", "model_events", [column], if_not_exists=True)
