"""What vendors of raw prices need: their splits and dividends beside the bars, and a view that applies them.

Only adds a table of the platform's own; the view `adjusted_bars` keeps its columns.
"""

import sqlalchemy as sa
from alembic import op

from boursomatic_assets.storage.postgres.derived import ADJUSTED_BARS

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    op.create_table(
        "vendor_actions",
        sa.Column("symbol", sa.Text(), primary_key=True),
        # The first session at the new price.
        sa.Column("session", sa.Date(), primary_key=True),
        sa.Column("split", sa.Double(), nullable=False),
        sa.Column("dividend", sa.Double(), nullable=False),
        sa.Column("ratio", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False, server_default=sa.text("timezone('utc', now())")),
        sa.CheckConstraint("ratio > 0 AND ratio < 'Infinity'", name="vendor_actions_ratio_is_positive"),
        sa.CheckConstraint("split > 0 AND split < 'Infinity'", name="vendor_actions_split_is_positive"),
        if_not_exists=True,
    )
    op.execute(ADJUSTED_BARS)


def downgrade() -> None:
    """Refuse: raw bars cannot be read without this table."""
    message = "the platform's migrations only add; restore a backup to go back"
    raise RuntimeError(message)
