from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.membership import MEMBER_SCHEMA
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets.storage.postgres.membership_table import replace_members
from boursomatic_assets.storage.postgres.panel_survivors import panel_survivors
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import random_walk_bars, weekdays

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

SESSIONS = 200
DAYS = weekdays(SESSIONS)
BARS = random_walk_bars(4, SESSIONS, seed=4)


def fill(database: Database) -> None:
    """W000 and W003 trade to the end; W001 ends 50 sessions before, W002 of Paris 60 sessions before."""
    lasts = pl.col("symbol").replace_strict({"W001": DAYS[149], "W002": DAYS[139]}, default=DAYS[-1])
    write_instruments(database, pl.concat([listed("W000", "W001", "W003"), listed("W002", exchange="XPAR")]))
    write_bars(database, accepted(BARS.filter(pl.col("session") <= lasts)), "sample")


def test_panel_survivors_uses_bars_not_membership(database: Database) -> None:
    fill(database)
    left = [("W000", DAYS[0], None), ("W001", DAYS[0], DAYS[100]), ("W002", DAYS[0], None), ("GONE", DAYS[0], None)]
    replace_members(database, pl.DataFrame(left, schema=MEMBER_SCHEMA, orient="row"))
    # The panel's rows of W001 end with its membership, and W003 was never a member.
    panel = BARS.filter((pl.col("symbol") != "W003") & (pl.col("session") < DAYS[100])).select("symbol", "session")
    found = panel_survivors(database, panel)
    # W002 is the only symbol of its exchange, so its end cannot be seen.
    assert (found.symbols, found.ended) == (3, 1)
    (year,) = found.years
    # On Friday 2018-06-29 W001 has left: W000 and W002 of W000, W002 and GONE.
    assert (year.members_on, year.members_held, year.members) == (date(2018, 6, 29), 2, 3)


def test_panel_survivors_ignores_bars_before_the_panel(database: Database) -> None:
    fill(database)
    panel = BARS.filter(pl.col("session") >= DAYS[20]).select("symbol", "session")
    found = panel_survivors(database, panel)
    assert (found.first_session, found.last_session) == (DAYS[20], DAYS[-1])
    assert found.poorest_year is None
