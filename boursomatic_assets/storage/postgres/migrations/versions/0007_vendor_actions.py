"""What vendors of raw prices need: their splits and dividends beside the bars, and a view that applies them.

Only adds a table of the platform's own; the view `adjusted_bars` keeps its columns.
"""

import sqlalchemy as sa
from alembic import op

from boursomatic_assets.storage.postgres.tables import DAILY, KEYS

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
    op.execute(_ADJUSTED_BARS)


def downgrade() -> None:
    """Refuse: raw bars cannot be read without this table."""
    message = "the platform's migrations only add; restore a backup to go back"
    raise RuntimeError(message)


# A person's entry replaces what the vendor says of its session; an entry of 1 accepts a move and replaces nothing.
_APPLIED = """
    applied AS (
        SELECT symbol, session, ratio, ratio AS volume_ratio FROM adjustments WHERE ratio <> 1
        UNION ALL
        SELECT v.symbol, v.session, v.ratio, 1 / v.split FROM vendor_actions v
        WHERE NOT EXISTS (SELECT FROM adjustments a
                          WHERE a.symbol = v.symbol AND a.session = v.session AND a.ratio <> 1))
"""
_ADJUSTED_BARS = f"""
    CREATE OR REPLACE VIEW adjusted_bars AS
    WITH {KEYS}, {_APPLIED}
    SELECT k.symbol, b.ts::date AS session, b.o * f.factor AS open, b.h * f.factor AS high,
           b.l * f.factor AS low, b.c * f.factor AS close, b.v / f.volume_factor AS volume,
           EXISTS (SELECT FROM unexplained_jumps j WHERE j.symbol = k.symbol AND NOT EXISTS (
               SELECT FROM adjustments a WHERE a.symbol = j.symbol AND a.session = j.session)) AS is_quarantined
    FROM price_bars b
    JOIN keys k ON k.id = b.instrument_id
    CROSS JOIN LATERAL (
        SELECT coalesce(exp(sum(ln(a.ratio))), 1) AS factor,
               coalesce(exp(sum(ln(a.volume_ratio))), 1) AS volume_factor
        FROM applied a WHERE a.symbol = k.symbol AND a.session > b.ts::date) f
    WHERE b.interval = '{DAILY}'
"""  # noqa: S608 (nothing of it comes from outside)
