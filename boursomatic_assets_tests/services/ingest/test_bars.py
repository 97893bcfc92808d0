from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, ISOLATED, CheckedBars
from boursomatic_assets.errors import BarContractError, PanelContractError, SourceFileError
from boursomatic_assets.providers.source import BarBatch, reports_of
from boursomatic_assets.services.ingest import bars as updates
from boursomatic_assets.services.ingest.bars import (
    BarUpdate,
    checked_batch,
    record_jumps,
    scan_stored,
    store_all,
    tally_source,
)
from boursomatic_assets.storage.postgres.adjustments_table import (
    add_adjustment,
    read_corrections,
    remove_adjustment,
)
from boursomatic_assets.storage.postgres.database import UpsertCounts
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_bars, write_bars
from boursomatic_assets_tests.support.catalog import rows, run, versions_of
from boursomatic_assets_tests.support.panels import accepted, listed
from boursomatic_assets_tests.support.strategies import flat_bars, weekdays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boursomatic_assets.providers.source import BarRequest
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

TODAY = date(2030, 1, 1)
SECOND, THIRD, FOURTH = weekdays(4)[1:]


@dataclass(frozen=True)
class Pieces:
    """A source that has these bars at hand, in pieces; it may break down after the last one."""

    pieces: tuple[pl.DataFrame, ...]
    adjusted: bool = True
    breaks_down: bool = False
    fetches_by_symbol: bool = field(default=False, init=False)
    description: str = field(default="bars of the test", init=False)

    def instruments(self) -> pl.DataFrame:
        return pl.DataFrame(schema=INSTRUMENT_SCHEMA)

    def batches(self, _requests: Sequence[BarRequest] = ()) -> Iterator[BarBatch]:
        for bars in self.pieces:
            yield BarBatch(bars, reports_of(bars, "test"), self.adjusted)
        if self.breaks_down:
            message = "the second file is truncated"
            raise SourceFileError(message)


@pytest.fixture
def store(database: Database) -> Database:
    """A database that knows four symbols, without bars."""
    write_instruments(database, listed("AAA", "BBB", "CCC", "DDD"))
    return database


@pytest.fixture
def from_file(settings: Settings) -> Settings:
    return replace(settings, provider="files", provider_path="/prices.csv", max_rejected_share=0.25)


def take(
    database: Database, settings: Settings, *pieces: pl.DataFrame, adjusted: bool = True, breaks_down: bool = False
) -> BarUpdate:
    return store_all(database, Pieces(pieces, adjusted, breaks_down), settings, TODAY, lambda _: None)


def broken(bars: pl.DataFrame, count: int) -> pl.DataFrame:
    """The same bars, the first few with a volume below zero."""
    low = pl.int_range(pl.len()) < count
    return bars.with_columns(volume=pl.when(low).then(-1.0).otherwise("volume"))


def stored_rows(database: Database) -> list[tuple[object, ...]]:
    return rows(
        database,
        "SELECT (SELECT count(*) FROM price_bars), (SELECT count(*) FROM rejected_bars), "
        "(SELECT count(*) FROM unexplained_jumps)",
    )


def jumps(database: Database) -> list[tuple[object, ...]]:
    return rows(database, "SELECT symbol, session, ratio, split_ratio FROM unexplained_jumps ORDER BY 1, 2")


def quarantined(database: Database) -> list[str]:
    with database.bulk() as cursor:
        return read_corrections(cursor).quarantined


def test_store_all_stores_and_counts_every_piece(store: Database, from_file: Settings) -> None:
    notes: list[str] = []
    first = broken(flat_bars({"AAA": [10.0] * 4, "BBB": [20.0] * 3}), 1)
    second = flat_bars({"CCC": [30.0] * 2})
    update = store_all(store, Pieces((first, second)), from_file, TODAY, notes.append)
    # 4 + 3 + 2 bars, of which one is broken
    assert update.counts == UpsertCounts(8, 0, 0)
    assert (update.tally.accepted, update.tally.rejected) == (8, 1)
    assert update.tally.reasons == {"negative volume": 1}
    assert [(report.symbol, report.rows) for report in update.reports] == [("AAA", 4), ("BBB", 3), ("CCC", 2)]
    assert notes == ["2 symbols, 6 bars", "3 symbols, 8 bars"]
    assert update.rewritten.is_empty()
    assert read_bars(store).equals(pl.concat([first[1:], second]))
    assert rows(store, "SELECT source, symbol, session FROM rejected_bars") == [
        ("files:/prices.csv", "AAA", weekdays(1)[0])
    ]


def test_store_all_names_a_source_without_a_path(store: Database, from_file: Settings) -> None:
    sample = replace(from_file, provider="sample", provider_path=None)
    take(store, sample, broken(flat_bars({"AAA": [10.0] * 4}), 1))
    assert rows(store, "SELECT source FROM rejected_bars") == [("sample",)]


def test_store_all_twice_writes_nothing(store: Database, from_file: Settings) -> None:
    pieces = flat_bars({"AAA": [10.0, 11.0]}), flat_bars({"BBB": [20.0]})
    take(store, from_file, *pieces)
    before = versions_of(store, "price_bars")
    update = take(store, from_file, *pieces)
    assert update.counts == UpsertCounts(0, 0, 3)
    assert update.rewritten.is_empty()
    assert versions_of(store, "price_bars") == before


def test_store_all_reports_rewritten_bars_by_symbol(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [10.0, 11.0, 12.0], "BBB": [20.0, 21.0], "CCC": [30.0]}))
    first = flat_bars({"AAA": [10.0, 11.5, 12.5, 13.0], "BBB": [20.0, 21.0, 22.0]})
    update = take(store, from_file, first, flat_bars({"CCC": [31.0]}))
    # two of AAA from the second weekday on, one of CCC; a session of each of the others is new
    assert update.counts == UpsertCounts(2, 3, 3)
    assert update.rewritten.rows() == [("AAA", 2, SECOND), ("CCC", 1, weekdays(1)[0])]


def test_store_all_refuses_a_broken_source_whole(store: Database, from_file: Settings) -> None:
    good = flat_bars({"AAA": [100.0, 50.0]})
    # 2 + 0 sound, then 2 sound and 2 broken: 2 of 6 is a third, and a quarter is allowed
    bad = broken(flat_bars({"BBB": [10.0] * 4}), 2)
    with pytest.raises(BarContractError, match="2 of 6 do"):
        take(store, from_file, good, bad, adjusted=False)
    assert stored_rows(store) == [(0, 0, 0)]
    # without the broken ones it would have landed, with a bar of each table
    take(store, from_file, good, broken(flat_bars({"BBB": [10.0] * 4}), 1), adjusted=False)
    assert stored_rows(store) == [(2 + 3, 1, 1)]


def test_store_all_judges_the_source_as_a_whole(store: Database, from_file: Settings) -> None:
    # the first piece alone breaks the rule with 1 of 2; of both together it is 1 of 10
    update = take(store, from_file, broken(flat_bars({"AAA": [1.0] * 2}), 1), flat_bars({"BBB": [1.0] * 8}))
    assert update.tally.rejected_share == 0.1


def test_store_all_rolls_back_when_the_source_fails(store: Database, from_file: Settings) -> None:
    with pytest.raises(SourceFileError, match="truncated"):
        take(store, from_file, flat_bars({"AAA": [100.0, 50.0]}), adjusted=False, breaks_down=True)
    assert stored_rows(store) == [(0, 0, 0)]


def test_store_all_rolls_back_at_an_unknown_symbol(store: Database, from_file: Settings) -> None:
    with pytest.raises(PanelContractError, match="NEW"):
        take(store, from_file, flat_bars({"AAA": [1.0]}), flat_bars({"NEW": [1.0]}))
    assert stored_rows(store) == [(0, 0, 0)]


def test_store_all_keeps_stored_bars_of_a_refused_source(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [100.0, 50.0]}), adjusted=False)
    before = versions_of(store, "price_bars"), jumps(store)
    with pytest.raises(BarContractError):
        take(store, from_file, flat_bars({"AAA": [100.0, 101.0]}), broken(flat_bars({"BBB": [1.0]}), 1))
    assert (versions_of(store, "price_bars"), jumps(store)) == before


def test_store_all_refuses_a_source_without_bars(store: Database, from_file: Settings) -> None:
    for pieces in ((), (pl.DataFrame(schema=BAR_SCHEMA),)):
        with pytest.raises(BarContractError, match="there are no rows"):
            take(store, from_file, *pieces)


def test_jumps_of_unadjusted_prices_are_recorded(store: Database, from_file: Settings) -> None:
    bars = flat_bars({"AAA": [100.0, 50.0], "BBB": [10.0, 11.0], "CCC": [1.0, 1.0, 10.0]})
    take(store, from_file, bars, adjusted=False)
    assert jumps(store) == [("AAA", SECOND, 0.5, 0.5), ("CCC", THIRD, 10.0, 10.0)]
    assert quarantined(store) == ["AAA", "CCC"]


def test_jumps_of_adjusted_prices_are_recorded(store: Database, from_file: Settings) -> None:
    # Adjusted sources miss a split now and then, so stored prices are searched too.
    take(store, from_file, flat_bars({"AAA": [100.0, 50.0]}), adjusted=True)
    assert jumps(store) == [("AAA", SECOND, 0.5, 0.5)]


def test_jumps_between_two_batches_are_recorded(store: Database, from_file: Settings) -> None:
    whole = flat_bars({"AAA": [100.0, 100.0, 50.0, 50.0], "BBB": [10.0] * 4})
    take(store, from_file, whole.filter(pl.col("session") < THIRD))
    take(store, from_file, whole.filter(pl.col("session") >= THIRD))
    assert jumps(store) == [("AAA", THIRD, 0.5, 0.5)]


def test_jumps_before_stored_bars_are_recorded(store: Database, from_file: Settings) -> None:
    whole = flat_bars({"AAA": [100.0, 100.0, 50.0, 50.0]})
    take(store, from_file, whole.filter(pl.col("session") >= THIRD))
    take(store, from_file, whole.filter(pl.col("session") < THIRD))
    assert jumps(store) == [("AAA", THIRD, 0.5, 0.5)]


def test_wrong_tick_stored_last_is_rejected_by_a_later_batch(store: Database, from_file: Settings) -> None:
    whole = flat_bars({"AAA": [100.0, 100.0, 50.0, 100.0], "BBB": [1.0] * 4})
    take(store, from_file, whole.filter(pl.col("session") < FOURTH))
    assert quarantined(store) == ["AAA"]
    take(store, from_file, whole.filter(pl.col("session") == FOURTH))
    assert quarantined(store) == []
    assert read_bars(store).filter(symbol="AAA")["close"].to_list() == [100.0, 100.0, 100.0]
    assert rows(store, "SELECT symbol, close, reason FROM rejected_bars") == [("AAA", 50.0, ISOLATED)]


def test_jumps_disappear_when_the_source_adjusts(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [100.0, 50.0, 50.0], "BBB": [10.0, 5.0]}), adjusted=False)
    assert quarantined(store) == ["AAA", "BBB"]
    # the rewritten history of AAA no longer jumps there; of BBB nothing is said
    take(store, from_file, flat_bars({"AAA": [50.0, 50.0, 50.0]}), adjusted=False)
    assert jumps(store) == [("BBB", SECOND, 0.5, 0.5)]
    take(store, from_file, flat_bars({"BBB": [5.0, 5.0]}), adjusted=True)
    assert jumps(store) == []


def test_jumps_outside_the_searched_span_stay(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [100.0, 50.0, 50.0, 50.0]}), adjusted=False)
    # only the newest sessions: jumps before or into the first of them cannot be seen
    take(store, from_file, flat_bars({"AAA": [None, 50.0, 50.0, 50.0]}), adjusted=False)
    assert jumps(store) == [("AAA", SECOND, 0.5, 0.5)]


def test_adjustment_explains_a_jump_in_later_updates(store: Database, from_file: Settings) -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 25.0]})
    take(store, from_file, bars, adjusted=False)
    add_adjustment(store, "AAA", SECOND, 0.5, None)
    assert quarantined(store) == ["AAA"]
    add_adjustment(store, "AAA", THIRD, 1.0, "it was real")
    assert quarantined(store) == []
    take(store, from_file, bars, adjusted=False)
    assert quarantined(store) == []
    remove_adjustment(store, "AAA", THIRD)
    take(store, from_file, bars, adjusted=False)
    assert quarantined(store) == ["AAA"]


def test_removed_adjustment_quarantines_again(store: Database, from_file: Settings) -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 50.0, 50.0]})
    take(store, from_file, bars, adjusted=False)
    add_adjustment(store, "AAA", SECOND, 0.5, None)
    take(store, from_file, bars, adjusted=False)
    assert quarantined(store) == []
    # whatever else comes in between, such as the newest sessions alone
    take(store, from_file, flat_bars({"AAA": [None, None, 50.0, 50.0]}), adjusted=False)
    remove_adjustment(store, "AAA", SECOND)
    assert quarantined(store) == ["AAA"]


def test_isolated_prices_are_rejected_from_any_source(store: Database, from_file: Settings) -> None:
    bars = flat_bars({"AAA": [100.0, 50.0, 100.0, 101.0], "BBB": [10.0] * 4})
    update = take(store, from_file, bars, adjusted=False)
    assert update.tally.reasons == {ISOLATED: 1}
    assert read_bars(store)["session"].to_list() == [weekdays(1)[0], THIRD, FOURTH, *weekdays(4)]
    assert jumps(store) == []
    for adjusted in (True, False):
        found = checked_batch(BarBatch(bars, (), adjusted=adjusted), TODAY).rejected
        assert found["session"].to_list() == [SECOND]


def test_tally_source_judges_all_pieces_and_stores_nothing(store: Database, from_file: Settings) -> None:
    first, second = broken(flat_bars({"AAA": [1.0] * 4}), 1), flat_bars({"BBB": [1.0] * 4})
    tally = tally_source(Pieces((first, second)), from_file, TODAY)
    assert (tally.accepted, tally.rejected) == (7, 1)
    with pytest.raises(BarContractError, match="3 of 8 do"):
        tally_source(Pieces((first, broken(second, 2))), from_file, TODAY)
    assert stored_rows(store) == [(0, 0, 0)]
    # isolated prices count as rejected
    isolated = flat_bars({"AAA": [100.0, 50.0, 100.0]})
    with pytest.raises(BarContractError, match="1 of 3 do"):
        tally_source(Pieces((isolated,)), from_file, TODAY)


def filled_by_others(database: Database) -> pl.DataFrame:
    """Bars in the table that no update of ours has seen."""
    bars = flat_bars({"AAA": [100.0, 50.0, 50.0], "BBB": [10.0, 11.0, 12.0], "CCC": [1.0, 1.0, 3.0]})
    write_bars(database, accepted(bars), "theirs")
    return bars


def test_scan_stored_writes_no_bar(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    bars, notes = filled_by_others(store), []
    before = {table: versions_of(store, table) for table in ("price_bars", "instruments")}
    monkeypatch.setattr(updates, "symbol_batches", lambda _: [["AAA", "BBB"], ["CCC"]])
    update = scan_stored(store, notes.append)
    assert update.counts == UpsertCounts(0, 0, bars.height)
    assert (update.tally.accepted, update.tally.rejected) == (9, 0)
    assert update.reports == []
    assert notes == ["6 bars searched", "9 bars searched"]
    assert {table: versions_of(store, table) for table in before} == before
    assert stored_rows(store) == [(9, 0, 2)]
    assert jumps(store) == [("AAA", SECOND, 0.5, 0.5), ("CCC", THIRD, 3.0, 3.0)]


def test_scan_stored_again_notices_repairs_and_adjustments(store: Database) -> None:
    filled_by_others(store)
    scan_stored(store, lambda _: None)
    add_adjustment(store, "CCC", THIRD, 1.0, None)
    run(
        store,
        "UPDATE price_bars SET o = 50, h = 50, l = 50, c = 50 FROM instruments i "
        "WHERE i.id = instrument_id AND symbol = 'AAA'",
    )
    scan_stored(store, lambda _: None)
    assert quarantined(store) == []
    remove_adjustment(store, "CCC", THIRD)
    scan_stored(store, lambda _: None)
    assert quarantined(store) == ["CCC"]


def test_scan_stored_of_an_empty_table(store: Database) -> None:
    assert scan_stored(store, lambda _: None).counts == UpsertCounts(0, 0, 0)


def test_record_jumps_without_bars_keeps_jumps(store: Database) -> None:
    bars = filled_by_others(store)
    scan_stored(store, lambda _: None)
    before = jumps(store)
    with store.bulk() as cursor:
        record_jumps(cursor, CheckedBars(bars.clear(), bars.clear()), bars.clear())
    assert jumps(store) == before


def test_wrong_tick_stored_last_is_removed_when_it_shows(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [100.0, 100.0, 50.0], "BBB": [1.0] * 5}), adjusted=False)
    assert quarantined(store) == ["AAA"]
    # 50 lies at half of the closes on both sides: a wrong tick, and no split
    take(store, from_file, flat_bars({"AAA": [100.0, 100.0, 50.0, 100.0], "BBB": [1.0] * 5}), adjusted=False)
    assert quarantined(store) == []
    assert read_bars(store).filter(symbol="AAA")["close"].to_list() == [100.0, 100.0, 100.0]
    assert rows(store, "SELECT symbol, close, reason FROM rejected_bars") == [("AAA", 50.0, ISOLATED)]


def test_jumps_that_changed_are_replaced(store: Database, from_file: Settings) -> None:
    take(store, from_file, flat_bars({"AAA": [100.0, 50.0, 50.0], "BBB": [1.0] * 3}), adjusted=False)
    take(store, from_file, flat_bars({"AAA": [200.0, 50.0, 50.0], "BBB": [1.0] * 3}), adjusted=False)
    # 50 / 200
    assert [row[2:] for row in jumps(store)] == [(0.25, 0.25)]
