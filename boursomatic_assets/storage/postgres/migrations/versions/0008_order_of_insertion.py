"""The order in which versions, recommendations and trials were inserted, which no clock decides.

Only adds a nullable column to each of three tables. Rows from before have no number: they are older than all that
have one.
"""

from alembic import op

from boursomatic_assets.storage.postgres.migrations import refuse_downgrade

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
downgrade = refuse_downgrade

_TABLES = ("model_versions", "recommendations", "trials")


def upgrade() -> None:
    """Create what is missing; leave what is there."""
    for table in _TABLES:
        sequence = f"boursomatic_{table}_insertion"
        op.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS insertion_number bigint")
        op.execute(f"CREATE SEQUENCE IF NOT EXISTS {sequence} OWNED BY {table}.insertion_number")
        # Set apart from the column: rows from before are neither read nor written.
        op.execute(f"ALTER TABLE {table} ALTER COLUMN insertion_number SET DEFAULT nextval('{sequence}')")
        # Other programs insert rows too, and know nothing of the sequence.
        op.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO PUBLIC")
