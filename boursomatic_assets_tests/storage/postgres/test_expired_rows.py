"""Rows that expire, and rows that something still needs."""

# ruff: noqa: S608 (the statements are the test's own)

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from boursomatic_assets.storage.postgres import expired_rows
from boursomatic_assets.storage.postgres.expired_rows import (
    NOTHING,
    Limits,
    expiring_tables,
    measure_expired,
    remove_expired,
    runs_behind_recommendations,
)
from boursomatic_assets_tests.support.catalog import rows, run

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

NOW = datetime(2026, 6, 1)  # noqa: DTZ001 (UTC, as the tables keep it)
LIMITS = Limits(NOW, NOW, NOW)
OLD, NEW = "2026-01-05", "2026-07-06"
# A bar of each of two instruments, a version that was active and one that is.
BASE = """
    INSERT INTO instruments (id, symbol, exchange)
        SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'S' || n, 'XNYS' FROM generate_series(1, 2) n;
    INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval, created_at)
        SELECT id, id, '2026-01-02', 1, 1, 1, 1, 1, 'daily', '2026-01-02' FROM instruments;
    INSERT INTO model_versions (id, version, params_hash, metrics_json, is_active)
        SELECT gen_random_uuid(), v, 'p', '{}', v = 'now' FROM unnest(ARRAY['before', 'now']) v;
"""


@pytest.fixture
def filled(database: Database) -> Database:
    run(database, BASE)
    return database


def call(  # noqa: PLR0913 (each is a fact about it)
    database: Database, symbol: str, made: str, *, archived: str | None, judged: bool, version: str = "before"
) -> None:
    """A recommendation, in the profile that is free."""
    is_active = archived is None
    when = "NULL" if archived is None else f"'{archived}'"
    run(
        database,
        "INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence, "
        "features_snapshot, generated_at, is_active, session, archived_at) SELECT gen_random_uuid(), i.id, m.id, "
        f"""'moderate', 'HOLD', 0.5, '{{"run": {{"run_id": "{symbol} {made}"}}}}', '{made} 20:00', {is_active}, """
        f"'{made}', {when} FROM instruments i, model_versions m "
        f"WHERE i.symbol = '{symbol}' AND m.version = '{version}'",
    )
    if judged:
        run(
            database,
            "INSERT INTO recommendation_outcomes SELECT id, session, 1, session, 1, 0, 'HOLD', true, NULL, NULL, "
            "'horizon' FROM recommendations r WHERE NOT EXISTS (SELECT FROM recommendation_outcomes o WHERE "
            f"o.recommendation_id = r.id) AND session = '{made}'",
        )


def changed(database: Database, bar: int, at: str, change: str = "c = c + 1") -> None:
    """A change of a bar, recorded at a moment."""
    run(
        database,
        f"UPDATE price_bars SET {change} WHERE id = '00000000-0000-0000-0000-00000000000{bar}';"
        f"UPDATE bar_changes SET changed_at = '{at}' WHERE id = (SELECT max(id) FROM bar_changes)",
    )


def expire(database: Database, limits: Limits = LIMITS) -> dict[str, int]:
    """Remove what has expired; how many of each table, none left out of the count before."""
    removed = {}
    for table in expiring_tables(database):
        counted, size = measure_expired(database, table, limits)
        removed[table.name] = remove_expired(database, table, limits)
        assert removed[table.name] == counted
        assert (size > 0) == (counted > 0)
    return {name: count for name, count in removed.items() if count}


def made(database: Database) -> list[str]:
    found = rows(database, "SELECT features_snapshot #>> '{run,run_id}' FROM recommendations ORDER BY 1")
    return [str(each) for (each,) in found]


def test_archived_recommendations_go_with_their_outcomes(filled: Database) -> None:
    call(filled, "S1", OLD, archived="2026-01-06", judged=True)
    call(filled, "S1", "2026-01-06", archived="2026-06-02", judged=True)
    call(filled, "S1", "2026-01-07", archived="2026-01-08", judged=False)
    call(filled, "S1", "2026-01-08", archived="2026-01-09", judged=True, version="now")
    call(filled, "S1", "2026-01-09", archived=None, judged=True)
    run(filled, "UPDATE recommendations SET session = NULL WHERE session = '2026-01-09'")
    assert expire(filled, Limits(records=NOW)) == {}
    assert expire(filled) == {"recommendations": 1}
    # Archived later, open, of the active version, and active.
    assert made(filled) == ["S1 2026-01-06", "S1 2026-01-07", "S1 2026-01-08", "S1 2026-01-09"]
    assert rows(filled, "SELECT count(*) FROM recommendation_outcomes") == [(3,)]
    # The active one has no session: another program wrote it.
    assert runs_behind_recommendations(filled, LIMITS) == {"S1 2026-01-06", "S1 2026-01-07", "S1 2026-01-08"}


def test_a_recommendation_that_another_programs_table_names_stays(filled: Database) -> None:
    for day in ("2026-01-05", "2026-01-06"):
        call(filled, "S1", day, archived="2026-01-09", judged=True)
    run(
        filled,
        'CREATE TABLE orders (id int, "the call" uuid REFERENCES recommendations (id) ON DELETE CASCADE);'
        "INSERT INTO orders SELECT 1, id FROM recommendations WHERE session = '2026-01-05'",
    )
    assert expire(filled) == {"recommendations": 1}
    assert made(filled) == ["S1 2026-01-05"]


def test_changes_of_bars_go_unless_a_stored_recommendation_needs_them(filled: Database) -> None:
    # S1 has an open recommendation of February, S2 none.
    call(filled, "S1", "2026-02-02", archived="2026-02-03", judged=False)
    for bar in (1, 2):
        for at in ("2026-02-01", "2026-03-01", NEW):
            changed(filled, bar, at)
    assert expire(filled) == {"bar_changes": 3}
    assert rows(filled, "SELECT instrument_id::text, changed_at::date::text FROM bar_changes ORDER BY 1, 2") == [
        ("00000000-0000-0000-0000-000000000001", "2026-03-01"),
        ("00000000-0000-0000-0000-000000000001", NEW),
        ("00000000-0000-0000-0000-000000000002", NEW),
    ]


def test_changes_since_the_features_were_computed_stay(filled: Database) -> None:
    call(filled, "S1", "2026-02-02", archived="2026-02-03", judged=False)
    run(
        filled,
        "INSERT INTO features (id, instrument_id, ts, created_at) "
        "SELECT id, id, '2026-02-02', '2026-01-20' FROM instruments",
    )
    for at in ("2026-01-19", "2026-01-21"):
        changed(filled, 1, at)
    assert expire(filled) == {"bar_changes": 1}
    assert rows(filled, "SELECT changed_at::date::text FROM bar_changes") == [("2026-01-21",)]


def test_a_bar_that_went_to_another_instrument_is_needed_by_both(filled: Database) -> None:
    # Before March the bar was S1's; what is recommended on S2 in February needs to know.
    call(filled, "S2", "2026-02-02", archived="2026-02-03", judged=False)
    changed(filled, 1, "2026-03-01", "ts = '2026-01-03', instrument_id = '00000000-0000-0000-0000-000000000002'")
    assert expire(filled) == {}
    run(filled, "DELETE FROM recommendations")
    assert expire(filled) == {"bar_changes": 1}


def test_results_of_fetching_go_but_not_those_that_are_read(filled: Database) -> None:
    run(
        filled,
        "INSERT INTO fetch_rounds (provider, scope, started_at, finished_at) VALUES "
        "('yahoo', 'all', '2026-01-01', '2026-01-01'), ('yahoo', 'all', '2026-01-02', '2026-01-02'), "
        "('stooq', 'all', '2026-01-03', NULL), ('yahoo', 'all', '2026-01-04', '2026-01-04');"
        "INSERT INTO fetch_results (round_id, symbol, outcome, source, rows, detail, fetched_at) VALUES "
        "(1, 'A', 'fetched', 'yahoo', 1, '', '2026-01-01'), (1, 'B', 'fetched', 'stooq', 1, '', '2026-01-01'), "
        "(2, 'A', 'fetched', 'yahoo', 1, '', '2026-01-02'), (2, 'B', 'not found', NULL, 0, '', '2026-01-02'), "
        "(3, 'A', 'refused', NULL, 0, '', '2026-01-03'), (4, 'B', 'not found', NULL, 0, '', '2026-01-04')",
    )
    assert expire(filled) == {"fetch_results": 2}
    # The newest rounds of each source, and the results that say where A and B come from.
    kept = [(1, "B"), (2, "A"), (3, "A"), (4, "B")]
    assert rows(filled, "SELECT round_id, symbol FROM fetch_results ORDER BY 1, 2") == kept
    run(filled, "INSERT INTO fetch_results VALUES (4, 'A', 'fetched', 'yahoo', 1, NULL, NULL, '', '2026-01-04')")
    assert expire(filled) == {"fetch_results": 1, "fetch_rounds": 1}


def test_settled_notices_and_rejected_bars_go(filled: Database) -> None:
    run(
        filled,
        "INSERT INTO rejected_bars (source, reason, copies, row_hash, last_seen_at) VALUES "
        f"('s', 'r', 1, 'a', '{OLD}'), ('s', 'r', 1, 'b', '{NEW}');"
        "INSERT INTO notices (key, kind, asset, subject, text, details, delivered, created_at, recovered_at, "
        "next_attempt_at) VALUES "
        f"('over', 'failure', 'a', '', '', '{{}}', '{{}}', '{OLD}', '{OLD}', NULL), "
        f"('told', 'recovery', 'a', '', '', '{{}}', '{{}}', '{OLD}', NULL, NULL), "
        f"('open', 'failure', 'a', '', '', '{{}}', '{{}}', '{OLD}', NULL, NULL), "
        f"('late', 'failure', 'a', '', '', '{{}}', '{{}}', '{OLD}', '{NEW}', NULL), "
        f"('waits', 'recovery', 'a', '', '', '{{}}', '{{}}', '{OLD}', NULL, '{OLD}')",
    )
    assert expire(filled, Limits(records=NOTHING)) == {}
    assert expire(filled) == {"rejected_bars": 1, "notices": 2}
    assert rows(filled, "SELECT key FROM notices ORDER BY 1") == [("late",), ("open",), ("waits",)]


class KilledError(BaseException):
    """The end of the process."""


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows removed by each batch of at most two; the process ends after the second batch."""
    removed: list[int] = []
    ends = iter([False, False, True])
    remove = expired_rows._remove_batch  # noqa: SLF001 (where it would be killed)

    def killed_later(*given: object) -> int:
        if next(ends, False):
            raise KilledError
        removed.append(remove(*given))  # type: ignore[arg-type]
        return removed[-1]

    monkeypatch.setattr(expired_rows, "BATCH", 2)
    monkeypatch.setattr(expired_rows, "_remove_batch", killed_later)
    return removed


def test_removal_that_was_killed_goes_on(filled: Database, batches: list[int]) -> None:
    for day in range(5, 10):
        call(filled, "S1", f"2026-01-0{day}", archived="2026-01-10", judged=True)
    with pytest.raises(KilledError):
        expire(filled)
    assert batches == [2, 2]
    # Nothing half: each row that is left has its outcome.
    query = "SELECT count(*), count(o.*) FROM recommendations r LEFT JOIN recommendation_outcomes o "
    assert rows(filled, query + "ON o.recommendation_id = r.id") == [(1, 1)]
    batches.clear()
    assert expire(filled) == {"recommendations": 1}


def test_vacuum_without_the_right_to_it_is_no_error(filled: Database) -> None:
    run(filled, f"INSERT INTO rejected_bars (source, reason, copies, row_hash, last_seen_at) "
                f"VALUES ('s', 'r', 1, 'a', '{OLD}')")  # fmt: skip
    role = "pruning_role"
    run(
        filled,
        f"CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; "
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    try:
        url = sa.make_url(filled.url).set(username=role).render_as_string(hide_password=False)
        assert expire(type(filled)(url)) == {"rejected_bars": 1}
    finally:
        run(filled, f"DROP OWNED BY {role}; DROP ROLE {role}")
