"""Adjustments that people entered, splits and dividends of vendors, and jumps that nobody has explained yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import sqlalchemy as sa

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA, JUMP_SCHEMA
from boursomatic_assets.core.market.vendor_actions import ACTION_SCHEMA, applied_ratios
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.storage.postgres.database import STAGING, fetch, stage, take_turns
from boursomatic_assets.storage.postgres.panels import SEPARATOR
from boursomatic_assets.storage.postgres.tables import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from boursomatic_assets.storage.postgres.database import Database

_UNEXPLAINED = """
    SELECT j.symbol, j.session, j.ratio, j.split_ratio FROM unexplained_jumps j
    WHERE NOT EXISTS (SELECT FROM adjustments a WHERE a.symbol = j.symbol AND a.session = j.session)
    ORDER BY j.symbol, j.session
"""
_ACTIONS = "SELECT symbol, session, split, dividend, ratio FROM vendor_actions"


@dataclass(frozen=True)
class Corrections:
    """What is known to be wrong about the stored bars.

    Attributes
    ----------
    adjustments : DataFrame
        Of `ADJUSTMENT_SCHEMA`: what people entered.
    jumps : DataFrame
        Of `JUMP_SCHEMA`: sessions at which a price seems to be stated anew, without an entry.
    actions : DataFrame
        Of `ACTION_SCHEMA`: splits and dividends that a vendor of raw prices states.
    """

    adjustments: pl.DataFrame
    jumps: pl.DataFrame
    actions: pl.DataFrame

    @property
    def applied(self) -> pl.DataFrame:
        """What bars are adjusted by, as `apply_adjustments` takes it."""
        return applied_ratios(self.adjustments, self.actions)

    @property
    def quarantined(self) -> list[str]:
        """Symbols with an unexplained jump."""
        return self.jumps["symbol"].unique().sort().to_list()


def read_corrections(cursor: Any) -> Corrections:  # noqa: ANN401 (an ADBC cursor)
    """Read adjustments, vendors' actions and unexplained jumps in the transaction of `cursor`."""
    entered = fetch(cursor, "SELECT symbol, session, ratio FROM adjustments ORDER BY symbol, session")
    jumps = fetch(cursor, _UNEXPLAINED)
    actions = fetch(cursor, f"{_ACTIONS} ORDER BY symbol, session")
    return Corrections(entered.cast(ADJUSTMENT_SCHEMA), jumps.cast(JUMP_SCHEMA), actions.cast(ACTION_SCHEMA))  # type: ignore[arg-type]


def read_actions(cursor: Any, symbols: Sequence[str]) -> pl.DataFrame:  # noqa: ANN401 (an ADBC cursor)
    """Read vendors' actions of some symbols: of `ACTION_SCHEMA`."""
    mine = f"{_ACTIONS} WHERE symbol = ANY (string_to_array($1, '{SEPARATOR}')) ORDER BY symbol, session"
    return fetch(cursor, mine, [SEPARATOR.join(symbols)]).cast(ACTION_SCHEMA)  # type: ignore[arg-type]


def replace_actions(cursor: Any, spans: pl.DataFrame, actions: pl.DataFrame) -> None:  # noqa: ANN401
    """Record the splits and dividends of a delivery, and forget those that it no longer states.

    Parameters
    ----------
    cursor : ADBC cursor
    spans : DataFrame
        `symbol`, `after`, `until`: the sessions of each symbol that the delivery speaks of, from behind `after`
        on; null for an open end.
    actions : DataFrame
        Of `ACTION_SCHEMA`, within these spans; none from a source whose prices are adjusted already.
    """
    take_turns(cursor, "vendor_actions")
    stage(cursor, spans)
    known = fetch(
        cursor,
        "SELECT v.symbol, v.session, v.split, v.dividend, v.ratio FROM vendor_actions v "  # noqa: S608
        f"JOIN {STAGING} s ON s.symbol = v.symbol AND (s.after IS NULL OR v.session > s.after) "
        "AND (s.until IS NULL OR v.session <= s.until)",
    ).cast(ACTION_SCHEMA)  # type: ignore[arg-type]
    gone, new = (
        known.join(actions, on=list(ACTION_SCHEMA), how="anti"),
        actions.join(known, on=list(ACTION_SCHEMA), how="anti"),
    )
    if gone.height:
        stage(cursor, gone.select(PANEL_KEY))
        cursor.execute(
            f"DELETE FROM vendor_actions v USING {STAGING} s WHERE s.symbol = v.symbol AND s.session = v.session"  # noqa: S608
        )
    if new.height:
        stage(cursor, new)
        cursor.execute(
            "INSERT INTO vendor_actions (symbol, session, split, dividend, ratio) "  # noqa: S608
            f"SELECT symbol, session, split, dividend, ratio FROM {STAGING}"
        )


def replace_jumps(cursor: Any, looked_at: pl.DataFrame, jumps: pl.DataFrame) -> None:  # noqa: ANN401
    """Record the jumps of the bars that were looked at, and forget those that are no longer there.

    Parameters
    ----------
    cursor : ADBC cursor
    looked_at : DataFrame
        `symbol`, `first`, `last`: the span of each symbol that was searched.
    jumps : DataFrame
        Of `JUMP_SCHEMA`, within these spans.
    """
    take_turns(cursor, "unexplained_jumps")
    stage(cursor, looked_at)
    known = fetch(
        cursor,
        f"SELECT j.symbol, j.session, j.ratio, j.split_ratio FROM unexplained_jumps j JOIN {STAGING} s "  # noqa: S608
        "ON s.symbol = j.symbol AND j.session > s.first AND j.session <= s.last",
    ).cast(JUMP_SCHEMA)  # type: ignore[arg-type]
    # A jump that has become another one is gone and new.
    gone, new = (
        known.join(jumps, on=list(JUMP_SCHEMA), how="anti"),
        jumps.join(known, on=list(JUMP_SCHEMA), how="anti"),
    )
    if gone.height:
        stage(cursor, gone)
        cursor.execute(
            f"DELETE FROM unexplained_jumps j USING {STAGING} s WHERE s.symbol = j.symbol AND s.session = j.session"  # noqa: S608
        )
    if new.height:
        stage(cursor, new)
        cursor.execute(
            "INSERT INTO unexplained_jumps (symbol, session, ratio, split_ratio) "  # noqa: S608
            f"SELECT symbol, session, ratio, split_ratio FROM {STAGING}"
        )


def known_jumps(database: Database, symbol: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Jumps of a symbol, explained or not, and its adjustments: of `JUMP_SCHEMA` and `ADJUSTMENT_SCHEMA`."""
    jumps, entered = (
        database.read(f"SELECT {', '.join(columns)} FROM {table} WHERE symbol = $1 ORDER BY session", [symbol])  # noqa: S608
        for table, columns in (("unexplained_jumps", JUMP_SCHEMA), ("adjustments", ADJUSTMENT_SCHEMA))
    )
    return jumps.cast(JUMP_SCHEMA), entered.cast(ADJUSTMENT_SCHEMA)  # type: ignore[arg-type]


def require_entry(database: Database, symbol: str, ratio: float) -> None:
    """Check that an adjustment can be one.

    Raises
    ------
    ConfigurationError
        If the symbol is no instrument, or the ratio is not above 0.
    """
    if not 0 < ratio < float("inf"):
        message = (
            f"a ratio is the price after over the price before and above 0; found {ratio}. "
            "Example: 0.5 for a two-for-one split"
        )
        raise ConfigurationError(message)
    known = f"WITH {KEYS} SELECT symbol FROM keys WHERE symbol = $1"  # noqa: S608
    if database.read(known, [symbol]).is_empty():
        message = (
            f"there is no instrument {symbol!r}. Write it as the table instruments does, or bring it in first: "
            "boursomatic materialize --select instruments,price_bars"
        )
        raise ConfigurationError(message)


def add_adjustment(database: Database, symbol: str, session: date, ratio: float, note: str | None) -> None:
    """Enter an adjustment, or replace the one of that symbol and session; errors as for `require_entry`.

    Whether it closes a jump is checked by `boursomatic_assets.services.ingest.adjusting.enter_adjustment`.
    """
    require_entry(database, symbol, ratio)
    with database.connection() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO adjustments (symbol, session, ratio, note) VALUES (:symbol, :session, :ratio, :note) "
                "ON CONFLICT (symbol, session) DO UPDATE SET ratio = excluded.ratio, note = excluded.note"
            ),
            {"symbol": symbol, "session": session, "ratio": ratio, "note": note},
        )


def remove_adjustment(database: Database, symbol: str, session: date) -> bool:
    """Take an adjustment back; says whether there was one."""
    with database.connection() as connection:
        gone = connection.execute(
            sa.text("DELETE FROM adjustments WHERE symbol = :symbol AND session = :session"),
            {"symbol": symbol, "session": session},
        )
        return gone.rowcount > 0


def list_adjustments(database: Database) -> pl.DataFrame:
    """Adjustments with their notes, and unexplained jumps without a ratio yet."""
    return database.read(
        "SELECT symbol, session, ratio, NULL::double precision AS split_ratio, note FROM adjustments "  # noqa: S608
        f"UNION ALL SELECT symbol, session, NULL, split_ratio, NULL FROM ({_UNEXPLAINED}) j ORDER BY 1, 2"
    )
