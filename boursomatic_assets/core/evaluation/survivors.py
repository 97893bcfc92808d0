"""Survivorship: which symbols of a panel end before it does, and how many members of each year it holds.

A panel in which every symbol trades to the end cannot show what happened to those that did not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_of, sessions_between
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

# A symbol has ended where more sessions follow its last bar: a halt or a late source is no end.
SESSIONS_TO_END = 20
# Two days for each session and a month on top: no exchange was closed for longer.
_DAYS_TO_END = 2 * SESSIONS_TO_END + 30
MID_YEAR = (6, 30)
_SATURDAY = 5
SPAN_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "exchange": pl.String(),
    "first": pl.Date(),
    "last": pl.Date(),
}


@dataclass(frozen=True)
class PanelYear:
    """One calendar year of a panel.

    `symbols` trade in it; `ended` have their last bar in it, though their exchange trades on.

    `members` are counted on `members_on`, the last weekday up to 30 June or the nearest day of the panel; None
    where the membership of that day is unknown. `members_held` are those of them that trade in the panel on that
    day.
    """

    year: int
    symbols: int
    ended: int
    members_on: date
    members: int | None = None
    members_held: int | None = None

    @property
    def share_held(self) -> float | None:
        """Share of the members that the panel holds."""
        return None if self.members is None or self.members_held is None else self.members_held / self.members

    def to_json(self) -> dict[str, Any]:
        """Strict JSON."""
        return asdict(self) | {"members_on": str(self.members_on), "share_held": self.share_held}


@dataclass(frozen=True)
class Survivors:
    """How many symbols of a panel end before it does, in total and by year."""

    symbols: int
    ended: int
    first_session: date
    last_session: date
    years: tuple[PanelYear, ...]

    @property
    def poorest_year(self) -> PanelYear | None:
        """The year with the smallest share of its members in the panel; None where none is known."""
        known = [year for year in self.years if year.share_held is not None]
        return min(known, key=lambda year: year.share_held or 0.0, default=None)

    @property
    def lacks_members(self) -> bool:
        """Whether some members of a year are not in the panel."""
        poorest = self.poorest_year
        return poorest is not None and poorest.members_held != poorest.members

    @property
    def qualification(self) -> str:
        """What a verdict of skill must say in the same sentence; empty where nothing qualifies it."""
        if not self.ended:
            return f"among survivors only: {self.words}"
        return f"among the members held only: {self.words}" if self.lacks_members else ""

    @property
    def words(self) -> str:
        """Endings and members held, as a clause."""
        if self.ended:
            verb = "stops" if self.ended == 1 else "stop"
            ended = f"{self.ended:,} of {self.symbols:,} symbols of this panel {verb} trading before the panel ends"
        else:
            ended = "no symbol of this panel stops trading before the panel ends"
        poorest = self.poorest_year
        if poorest is None:
            return ended
        if not self.lacks_members:
            return f"{ended}, and it holds every member of each year"
        held = f"{poorest.members_held:,} of {poorest.members:,} members of {poorest.year}"
        several = sum(year.share_held is not None for year in self.years) > 1
        return f"{ended}, and it holds {held}{', the lowest share of all years' if several else ''}"

    @property
    def sentence(self) -> str:
        """The same as a sentence."""
        return f"Survivors: {self.words}."

    def to_json(self) -> dict[str, Any]:
        """Strict JSON."""
        return {
            "symbols": self.symbols,
            "ended": self.ended,
            "sessions_to_end": SESSIONS_TO_END,
            "first_session": str(self.first_session),
            "last_session": str(self.last_session),
            "memberships_known": self.poorest_year is not None,
            "by_year": [year.to_json() for year in self.years],
            "sentence": self.sentence,
        }


def find_survivors(spans: pl.DataFrame, members: pl.DataFrame | None = None) -> Survivors:
    """Count the symbols that end before the panel does, and the members that it holds, by year.

    Parameters
    ----------
    spans : DataFrame
        Of `SPAN_SCHEMA`, a row per symbol; `exchange` is null where unknown.
    members : DataFrame, optional
        Memberships as `within_membership` reads them.

    Raises
    ------
    NotEnoughHistoryError
        If the panel has no symbol.

    Notes ----- A symbol has ended where more than `SESSIONS_TO_END` sessions of its exchange lie between its last
    bar and the last bar of any symbol of that exchange. Exchanges with one calendar count as one; without a
    calendar weekdays are sessions.
    """
    if spans.is_empty():
        message = (
            "survivors are counted among the symbols of a panel; found none.\n"
            "Ingest prices: boursomatic materialize --select price_bars"
        )
        raise NotEnoughHistoryError(message)
    first: date = spans["first"].min()  # type: ignore[assignment]
    last: date = spans["last"].max()  # type: ignore[assignment]
    marked = _marked(spans)
    years = tuple(_year(year, marked, members, (first, last)) for year in range(first.year, last.year + 1))
    return Survivors(marked.height, int(marked["ended"].sum()), first, last, years)


def panel_spans(panel: pl.DataFrame) -> pl.DataFrame:
    """First and last session of each symbol of a panel, as `find_survivors` reads them."""
    exchange = pl.col("exchange").first() if "exchange" in panel.columns else pl.lit(None)
    spans = panel.group_by("symbol").agg(
        exchange=exchange.cast(pl.String), first=pl.col("session").min(), last=pl.col("session").max()
    )
    return spans.select(list(SPAN_SCHEMA)).sort("symbol")


def _marked(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans with `ended`."""
    places = [calendar_of(name) or name for name in spans["exchange"]]
    placed = spans.with_columns(place=pl.Series(places, dtype=pl.String))
    newest = placed.group_by("place").agg(newest=pl.col("last").max())
    bounds = newest.with_columns(
        bound=pl.Series([_oldest_last(place, day) for place, day in newest.iter_rows()], dtype=pl.Date)
    )
    joined = placed.join(bounds, on="place", how="left", nulls_equal=True)
    return joined.with_columns(ended=pl.col("last") < pl.col("bound")).sort("symbol")


def _oldest_last(place: str | None, newest: date) -> date:
    """Oldest last bar of a symbol that has not ended: `SESSIONS_TO_END` sessions before the newest bar."""
    if calendar_of(place) is None or newest - timedelta(days=_DAYS_TO_END) < FIRST_SESSION:
        return np.busday_offset(newest, -SESSIONS_TO_END, roll="backward").astype(date)  # type: ignore[no-any-return]
    sessions = sessions_between(str(place), newest - timedelta(days=_DAYS_TO_END), newest)
    return sessions[-1 - SESSIONS_TO_END]  # type: ignore[no-any-return]


def _year(year: int, marked: pl.DataFrame, members: pl.DataFrame | None, panel: tuple[date, date]) -> PanelYear:
    first, last = pl.col("first"), pl.col("last")
    trading = marked.filter((first.dt.year() <= year) & (last.dt.year() >= year)).height
    ended = marked.filter(pl.col("ended") & (last.dt.year() == year)).height
    day = _members_day(year, panel)
    known = [] if members is None else _members_of(members, day)
    if not known:
        return PanelYear(year, trading, ended, day)
    # A symbol that has not ended is held to the panel's end, though its newest bar may be a session late.
    there = marked.filter((first <= day) & ((last >= day) | ~pl.col("ended")))
    return PanelYear(year, trading, ended, day, len(known), there.filter(pl.col("symbol").is_in(known)).height)


def _members_day(year: int, panel: tuple[date, date]) -> date:
    day = date(year, *MID_YEAR)
    day -= timedelta(days=max(day.weekday() - _SATURDAY + 1, 0))
    return min(max(day, panel[0]), panel[1])


def _members_of(members: pl.DataFrame, day: date) -> Sequence[str]:
    until = pl.col("member_until")
    inside = members.filter((pl.col("member_from") <= day) & (until.is_null() | (until > day)))
    return inside["symbol"].unique().sort().to_list()
