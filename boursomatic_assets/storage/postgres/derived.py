"""What follows from the tables: views for readers, and triggers that record rewritten bars.

A migration makes each; an upgrade makes those again that are missing. To change one, replace it in a new migration.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from boursomatic_assets.storage.postgres.tables import DAILY, KEYS

_KEPT = "id, instrument_id, ts, interval, o, h, l, c, v, created_at"
_INSERT = "INSERT INTO bar_changes (bar_id, instrument_id, ts, interval, o, h, l, c, v, bar_created_at, operation)"
_RECORD = f"""
    CREATE OR REPLACE FUNCTION boursomatic_record_bar_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            {_INSERT} SELECT {_KEPT}, 'delete' FROM replaced;
        ELSE
            {_INSERT} SELECT {_KEPT}, 'update' FROM (
                SELECT {_KEPT} FROM replaced EXCEPT SELECT {_KEPT} FROM replacing) changed;
        END IF;
        RETURN NULL;
    END $$
"""  # noqa: S608 (nothing of it comes from outside)

# A person's entry replaces what the vendor says of its session; an entry of 1 accepts a move and replaces nothing.
_APPLIED = """
    applied AS (
        SELECT symbol, session, ratio, ratio AS volume_ratio FROM adjustments WHERE ratio <> 1
        UNION ALL
        SELECT v.symbol, v.session, v.ratio, 1 / v.split FROM vendor_actions v
        WHERE NOT EXISTS (SELECT FROM adjustments a
                          WHERE a.symbol = v.symbol AND a.session = v.session AND a.ratio <> 1))
"""
ADJUSTED_BARS = f"""
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

CURRENT_RECOMMENDATIONS = f"""
    CREATE OR REPLACE VIEW current_recommendations AS
    WITH {KEYS}
    SELECT k.symbol, i.name, i.sector, i.exchange, m.version, r.profile, r.label, r.confidence,
           r.expected_return_pct, r.horizon_days, r.stop_loss, r.take_profit, r.justification, r.session,
           r.generated_at, r.id AS recommendation_id, m.is_active AS is_of_active_model
    FROM recommendations r
    JOIN instruments i ON i.id = r.instrument_id
    JOIN keys k ON k.id = i.id
    JOIN model_versions m ON m.id = r.model_version_id
    WHERE r.is_active AND i.is_active
"""  # noqa: S608 (nothing of it comes from outside)

VIEWS = {"adjusted_bars": ADJUSTED_BARS, "current_recommendations": CURRENT_RECOMMENDATIONS}
# A statement at a time: one that changes nothing costs next to nothing.
TRIGGERS = {
    "boursomatic_bars_updated": (
        "CREATE OR REPLACE TRIGGER boursomatic_bars_updated AFTER UPDATE ON price_bars "
        "REFERENCING OLD TABLE AS replaced NEW TABLE AS replacing "
        "FOR EACH STATEMENT EXECUTE FUNCTION boursomatic_record_bar_changes()"
    ),
    "boursomatic_bars_deleted": (
        "CREATE OR REPLACE TRIGGER boursomatic_bars_deleted AFTER DELETE ON price_bars "
        "REFERENCING OLD TABLE AS replaced "
        "FOR EACH STATEMENT EXECUTE FUNCTION boursomatic_record_bar_changes()"
    ),
}
_MISSING_VIEWS = "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL"
_TRIGGERS_THERE = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'price_bars'::regclass"


def create_triggers(connection: Connection) -> None:
    """Record in `bar_changes` what an update or a delete of bars replaces, whoever makes it."""
    schema = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    connection.exec_driver_sql(_RECORD.format(schema=schema))
    # Who may change bars need not be allowed to write here; nobody else is to call it.
    connection.exec_driver_sql("REVOKE ALL ON FUNCTION boursomatic_record_bar_changes() FROM PUBLIC")
    for statement in TRIGGERS.values():
        connection.exec_driver_sql(statement)


def create_missing(connection: Connection) -> None:
    """Make views and triggers again that somebody removed."""
    for name in connection.execute(sa.text(_MISSING_VIEWS), {"names": list(VIEWS)}).scalars().all():
        connection.exec_driver_sql(VIEWS[name])
    if missing_triggers(connection):
        create_triggers(connection)


def missing_triggers(connection: Connection) -> list[str]:
    """Triggers on `price_bars` that somebody removed."""
    return sorted(set(TRIGGERS) - set(connection.execute(sa.text(_TRIGGERS_THERE)).scalars()))
