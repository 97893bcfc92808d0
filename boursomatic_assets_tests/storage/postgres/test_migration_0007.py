"""What the seventh migration adds to a database that the sixth one made and people have filled since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command

from boursomatic_assets.storage.postgres import schema
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.server.embedded import database_url
from boursomatic_assets_tests.support.catalog import rows, run, shape, tables

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings

# Two sessions of one stock, and a split of 2 for 1 on the second that a person entered.
FILLED = """
    INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at)
    VALUES (gen_random_uuid(), 'X', 'XNYS', true, now(), now());
    INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at)
    SELECT gen_random_uuid(), id, d.day, 10, 12, 8, 10, 100, 'daily', now()
    FROM instruments, (VALUES ('2024-06-07'::timestamp), ('2024-06-10')) d (day);
    INSERT INTO adjustments (symbol, session, ratio) VALUES ('X', '2024-06-10', 0.5)
"""
VIEW = "SELECT session::text, close, volume FROM adjusted_bars ORDER BY session"
KEPT = "SELECT xmin::text, to_jsonb(b)::text FROM price_bars b ORDER BY 2"


@pytest.fixture
def sixth(settings: Settings) -> Database:
    database, config = Database(database_url(settings)), schema.migrations()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
    run(database, FILLED)
    return database


def test_an_upgrade_adds_one_table_and_reads_the_bars_as_before(sixth: Database) -> None:
    before = rows(sixth, VIEW), rows(sixth, KEPT)
    shape_before, tables_before = shape(sixth), tables(sixth, "public")
    assert schema.upgrade(sixth.engine) == "0006"
    assert (rows(sixth, VIEW), rows(sixth, KEPT)) == before
    assert before[0] == [("2024-06-07", 5.0, 200.0), ("2024-06-10", 10.0, 100.0)]
    assert set(shape_before) <= set(shape(sixth))
    assert tables(sixth, "public") - tables_before == {"vendor_actions"}


def test_the_view_applies_what_a_vendor_states_where_nobody_entered_anything(sixth: Database) -> None:
    schema.upgrade(sixth.engine)
    run(
        sixth,
        "INSERT INTO vendor_actions (symbol, session, split, dividend, ratio) VALUES "
        "('X', '2024-06-10', 4, 0, 0.25), ('X', '2024-06-11', 1, 1, 0.9)",
    )
    # The entry of 0.5 stands for the split; the dividend scales prices alone.
    assert rows(sixth, VIEW) == [
        ("2024-06-07", pytest.approx(10 * 0.5 * 0.9), 200.0),
        ("2024-06-10", pytest.approx(10 * 0.9), 100.0),
    ]
    run(sixth, "UPDATE adjustments SET ratio = 1")
    assert rows(sixth, VIEW)[0] == ("2024-06-07", pytest.approx(10 * 0.25 * 0.9), 400.0)


@pytest.mark.parametrize("values", ["4, 0, 0", "0, 0, 1", "'Infinity', 0, 1", "1, 0, 'Infinity'"])
def test_an_action_without_a_ratio_cannot_be_stored(sixth: Database, values: str) -> None:
    schema.upgrade(sixth.engine)
    insert = "INSERT INTO vendor_actions (symbol, session, split, dividend, ratio) VALUES ('X', '2024-06-10', {})"
    with pytest.raises(sa.exc.IntegrityError, match="vendor_actions_"):
        run(sixth, insert.format(values))
