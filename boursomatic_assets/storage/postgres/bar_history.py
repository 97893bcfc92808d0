"""Daily bars as they are now, and as they were at a moment.

Triggers on `price_bars` write to `bar_changes` what an update or a delete replaces. They do not see `TRUNCATE`. A
moment is the database's clock, UTC without a time zone; a transaction open at that moment counts as committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.storage.postgres.content import content_sum
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS, DAILY, KEYS

CHANGE_SCHEMA: dict[str, pl.DataType] = {
    "session": pl.Date(), "column": pl.String(), "then": pl.Float64(), "now": pl.Float64(),
}  # fmt: skip

# $1 is the symbol, $2 the last session, $3 the moment. Bars are followed by id: an update may change session and
# instrument. The first change after the moment replaced the row of that moment.
_MINE = f"WITH {KEYS}, mine AS (SELECT id FROM keys WHERE symbol = $1), "  # noqa: S608
_UP_TO = f"interval = '{DAILY}' AND ts < $2::text::timestamp + interval '1 day'"
_NOW = (
    "bars AS (SELECT ts, o, h, l, c, v FROM price_bars "  # noqa: S608
    f"WHERE instrument_id = (SELECT id FROM mine) AND {_UP_TO}) "
)
_VALUES = "instrument_id, ts, interval, o, h, l, c, v"
_THEN = (
    "touched AS (SELECT bar_id FROM bar_changes WHERE instrument_id = (SELECT id FROM mine) "  # noqa: S608
    "UNION SELECT id FROM price_bars WHERE instrument_id = (SELECT id FROM mine)), "
    f"undone AS (SELECT DISTINCT ON (bar_id) bar_id, {_VALUES}, bar_created_at AS created_at FROM bar_changes "
    "WHERE bar_id IN (SELECT bar_id FROM touched) AND changed_at > $3::text::timestamp "
    "ORDER BY bar_id, changed_at, id), "
    f"whole AS (SELECT {_VALUES}, created_at FROM undone UNION ALL SELECT {_VALUES}, created_at FROM price_bars b "
    "WHERE b.instrument_id = (SELECT id FROM mine) AND NOT EXISTS (SELECT FROM undone u WHERE u.bar_id = b.id)), "
    "bars AS (SELECT ts, o, h, l, c, v FROM whole WHERE instrument_id = (SELECT id FROM mine) "
    f"AND created_at <= $3::text::timestamp AND {_UP_TO}) "
)
_ROWS = f"SELECT ts::date AS session, {', '.join(f'{at} AS {name}' for name, at in BAR_COLUMNS.items())} FROM bars"  # noqa: S608
_CONTENT = f"SELECT coalesce({content_sum('price_bars')}, '0') AS content FROM bars t"  # noqa: S608


def bars_now(database: Database, symbol: str, until: date) -> pl.DataFrame:
    """Raw daily bars of an instrument up to a session: of `BAR_SCHEMA`, by session."""
    return _panel(database, _MINE + _NOW, symbol, [symbol, until.isoformat()])


def bars_then(database: Database, symbol: str, until: date, moment: datetime) -> pl.DataFrame:
    """Raw daily bars of an instrument up to a session, as they were at a moment: of `BAR_SCHEMA`, by session.

    `moment` is UTC without a time zone. Later changes are undone, rows created later left out.
    """
    return _panel(database, _MINE + _THEN, symbol, [symbol, until.isoformat(), moment.isoformat()])


def content_until(database: Database, symbol: str, until: date) -> str:
    """`content` of an instrument's daily bars up to a session, as in `read_content`; "0" without bars."""
    return str(database.value(_MINE + _NOW + _CONTENT, [symbol, until.isoformat()]))


def content_then(database: Database, symbol: str, until: date, moment: datetime) -> str:
    """`content_until` of the bars as they were at a moment (UTC, without a time zone)."""
    return str(database.value(_MINE + _THEN + _CONTENT, [symbol, until.isoformat(), moment.isoformat()]))


def changes_since(database: Database, symbol: str, until: date, moment: datetime) -> pl.DataFrame:
    """Values of an instrument's daily bars up to a session that changed since a moment, of `CHANGE_SCHEMA`.

    `then` is null for a bar that did not exist then, `now` for one that was removed.
    """
    then, now = (
        bars.unpivot(list(BAR_COLUMNS), index="session", variable_name="column", value_name="value")
        for bars in (bars_then(database, symbol, until, moment), bars_now(database, symbol, until))
    )
    beside = then.join(now, on=["session", "column"], how="full", coalesce=True, suffix="_now")
    changed = beside.filter(pl.col("value").ne_missing(pl.col("value_now")))
    places = pl.col("column").replace_strict({name: place for place, name in enumerate(BAR_COLUMNS)})
    return (
        changed.sort("session", places)
        .select("session", "column", then="value", now="value_now")
        .cast(CHANGE_SCHEMA)  # type: ignore[arg-type]
    )


def _panel(database: Database, bars: str, symbol: str, parameters: Sequence[str]) -> pl.DataFrame:
    found = database.read(bars + _ROWS, parameters).with_columns(symbol=pl.lit(symbol))
    return found.select(*BAR_SCHEMA).cast(BAR_SCHEMA).sort("session")  # type: ignore[arg-type]
