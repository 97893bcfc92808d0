"""The table `bar_changes`: triggers keep what an update or a delete of a bar replaces."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.support.catalog import FILLED, FOUR, ONE, THREE, TWO, rows, run

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

CHANGES = "SELECT bar_id::text, ts::text, interval, o, h, l, c, v, operation FROM bar_changes ORDER BY id"
FIRST = (ONE, "2020-01-02 00:00:00", "daily", 1.0, 2.0, 0.5, 1.5, 100.0)
SECOND = (TWO, "2020-01-03 00:00:00", "daily", 2.0, 3.0, 1.5, 2.5, 200.0)


@pytest.fixture
def filled(database: Database) -> Database:
    run(database, FILLED)
    return database


@pytest.mark.parametrize("change", ["o = 7", "h = 7", "l = 0.1", "c = 7", "v = 0", "ts = '2020-02-03'"])
def test_bar_changes_keeps_the_updated_row(filled: Database, change: str) -> None:
    run(filled, f"UPDATE price_bars SET {change} WHERE ts = '2020-01-02'")
    assert rows(filled, CHANGES) == [(*FIRST, "update")]


def test_bar_changes_keeps_rewrites_in_order(filled: Database) -> None:
    run(
        filled,
        "UPDATE price_bars SET c = 7 WHERE ts = '2020-01-02'; UPDATE price_bars SET c = 8 WHERE ts = '2020-01-02'",
    )
    assert rows(filled, "SELECT c FROM bar_changes ORDER BY changed_at, id") == [(1.5,), (7.0,)]
    # One transaction, but two times.
    assert rows(filled, "SELECT count(DISTINCT changed_at) FROM bar_changes") == [(2,)]


def test_bar_changes_ignores_updates_without_a_change(filled: Database) -> None:
    run(filled, "UPDATE price_bars SET o = o, c = c, v = v; UPDATE price_bars SET c = 3 WHERE false")
    assert rows(filled, CHANGES) == []


def test_bar_changes_keeps_deletes_and_upserts(filled: Database) -> None:
    run(filled, "DELETE FROM price_bars WHERE c = 2.5")
    run(
        filled,
        "INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval) VALUES "
        f"('{THREE}', '{ONE}', '2020-01-02', 1, 2, 0.5, 1.75, 100, 'daily'), "
        f"('{FOUR}', '{ONE}', '2020-01-06', 1, 2, 0.5, 1.75, 100, 'daily') "
        "ON CONFLICT (instrument_id, ts, interval) DO UPDATE SET c = excluded.c",
    )
    assert rows(filled, CHANGES) == [(*SECOND, "delete"), (*FIRST, "update")]
    # Creation times are kept.
    assert rows(filled, "SELECT bar_created_at IS NOT NULL FROM bar_changes") == [(True,), (True,)]


def test_bar_changes_keeps_other_intervals(filled: Database) -> None:
    run(filled, "UPDATE price_bars SET interval = '15m' WHERE c = 2.5; DELETE FROM price_bars WHERE c = 2.5")
    assert rows(filled, "SELECT interval, operation FROM bar_changes ORDER BY id") == [
        ("daily", "update"),
        ("15m", "delete"),
    ]


def test_bar_changes_ignores_truncate(filled: Database) -> None:
    run(filled, "TRUNCATE price_bars")
    assert rows(filled, CHANGES) == []


def test_bar_changes_records_a_role_without_rights_on_it(filled: Database) -> None:
    run(
        filled,
        "CREATE ROLE a_backend; GRANT SELECT, INSERT, UPDATE, DELETE ON price_bars TO a_backend;"
        # With another search path.
        "SET LOCAL ROLE a_backend; SET LOCAL search_path = pg_catalog;"
        "UPDATE public.price_bars SET c = 7 WHERE c = 1.5",
    )
    assert rows(filled, CHANGES) == [(*FIRST, "update")]
    may = "SELECT has_table_privilege('a_backend', 'bar_changes', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
    assert rows(filled, may) == [(False,)]
    may = "SELECT has_function_privilege('a_backend', 'boursomatic_record_bar_changes()', 'EXECUTE')"
    assert rows(filled, may) == [(False,)]
    run(filled, "DROP OWNED BY a_backend; DROP ROLE a_backend")
