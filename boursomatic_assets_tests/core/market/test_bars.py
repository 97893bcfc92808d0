from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.market.bars import (
    BAR_SCHEMA,
    EXAMPLES_IN_A_MESSAGE,
    EXAMPLES_KEPT,
    ISOLATED,
    NO_TRADE,
    PANEL_KEY,
    PRICE_COLUMNS,
    BarTally,
    CheckedBars,
    check_bars,
    require_panel,
    require_usable,
    symbol_groups,
)
from boursomatic_assets.errors import BarContractError, PanelContractError
from boursomatic_assets_tests.support.strategies import bar_panels, flat_bars, random_walk_bars, weekdays

TODAY = date(2030, 1, 1)
SOUND = {
    "symbol": "AAA",
    "session": date(2018, 1, 1),
    "open": 10.0,
    "high": 12.0,
    "low": 9.0,
    "close": 11.0,
    "volume": 100.0,
}


def bars_of(*changes: dict[str, Any]) -> pl.DataFrame:
    """One bar per argument: the sound bar with the values given."""
    return pl.DataFrame([SOUND | change for change in changes], schema=BAR_SCHEMA, orient="row")


def numbered(count: int, **change: object) -> list[dict[str, Any]]:
    """Changes for bars of as many sessions."""
    return [{"session": session, **change} for session in weekdays(count)]


def test_check_bars_accepts_a_valid_bar_as_it_is() -> None:
    checked = check_bars(bars_of({}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.rejected.is_empty()
    assert checked.reasons() == {}
    for rows in (bars_of({}), bars_of()):
        assert check_bars(rows, TODAY).rejected_share == 0.0
    walk = random_walk_bars(symbols=5, sessions=50, seed=1)
    assert check_bars(walk, TODAY).accepted.equals(walk)


@pytest.mark.parametrize(
    "change",
    [
        {"open": 11.0, "high": 11.0, "low": 11.0, "close": 11.0},
        {"volume": 0.0},
        {"session": TODAY},
        {"open": 12.0},
        {"open": 9.0, "close": 9.0},
        {"low": 5e-324, "open": 5e-324},
        {"volume": 1e300},
    ],
    ids=["one price", "no volume", "today", "open is high", "close is low", "tiny", "huge"],
)
def test_check_bars_accepts_a_bar_at_the_edge_of_a_rule(change: dict[str, Any]) -> None:
    assert check_bars(bars_of(change), TODAY).rejected.is_empty()


@pytest.mark.parametrize(
    ("change", "high", "low"),
    [
        # one unit in the last place below the close: the close
        ({"high": math.nextafter(11.0, 0.0)}, 11.0, 9.0),
        ({"low": math.nextafter(10.0, 20.0)}, 12.0, 10.0),
        # 1e-9 of 11 is 1.1e-8
        ({"high": 11.0 - 1e-8, "open": 11.0}, 11.0, 9.0),
        ({"high": 9.0 - 5e-9, "open": 9.0, "close": 9.0}, 9.0, 9.0 - 5e-9),
    ],
)
def test_check_bars_sets_a_high_or_low_that_misses_by_rounding(
    change: dict[str, Any], high: float, low: float
) -> None:
    row = bars_of(change).with_columns(low=pl.min_horizontal("low", "high"))
    accepted = check_bars(row, TODAY).accepted.row(0, named=True)
    assert (accepted["high"], accepted["low"]) == (high, low)


def test_check_bars_rejects_beyond_rounding_without_a_change() -> None:
    # 3e-9 of 11 is 3.3e-8
    checked = check_bars(bars_of({"high": 11.0 - 3.3e-8}, {"low": 10.0 + 3.3e-8}), TODAY)
    assert checked.rejected["high"].to_list() == [11.0 - 3.3e-8, 12.0]
    assert sorted(checked.rejected["reason"]) == ["high below low, open or close", "low above open or close"]
    # A bar that is set aside for another reason keeps what it came with.
    rounded = math.nextafter(11.0, 0.0)
    aside = check_bars(bars_of({"high": rounded, "volume": -1.0}), TODAY).rejected
    assert aside["high"].to_list() == [rounded]


def test_check_bars_names_unread_text_first_and_counts_it_by_kind() -> None:
    bars = bars_of({"open": None}, {"open": None, "session": date(2018, 1, 2)}, {"volume": -1.0}).with_columns(
        unread=pl.Series(["not a number: 1,105", "not a number: ten", None])
    )
    checked = check_bars(bars, TODAY)
    assert sorted(checked.rejected["reason"]) == ["negative volume", "not a number: 1,105", "not a number: ten"]
    assert checked.reasons() == {"not a number": 2, "negative volume": 1}


def test_bar_tally_has_the_symbols_of_accepted_bars() -> None:
    tally = BarTally().plus(check_bars(bars_of({}, {"symbol": "BBB", "close": -1.0}), TODAY))
    assert tally.plus(check_bars(bars_of({"symbol": "CCC"}), TODAY)).symbols == {"AAA", "CCC"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"symbol": None}, "null symbol or session"),
        ({"session": None}, "null symbol or session"),
        ({"symbol": "A" * 51}, "symbol of 51 letters; at most 50 are kept"),
        *(({"symbol": symbol}, "control character in the symbol") for symbol in ("A\x00", "A\nB")),
        *(
            ({"session": day}, "date before 1900 or a placeholder")
            for day in (date(1, 1, 1), date(1899, 12, 31), date(1900, 1, 1), date(1970, 1, 1))
        ),
        *(({name: None}, "null price or volume") for name in (*PRICE_COLUMNS, "volume")),
        *(({name: math.nan}, "non-finite price or volume") for name in (*PRICE_COLUMNS, "volume")),
        ({"high": math.inf}, "non-finite price or volume"),
        ({"low": -math.inf}, "non-finite price or volume"),
        ({"volume": math.inf}, "non-finite price or volume"),
        *(({name: price}, "non-positive price") for name in PRICE_COLUMNS for price in (0.0, -1.0)),
        ({"high": 8.0}, "high below low, open or close"),
        ({"high": 10.5}, "high below low, open or close"),
        ({"open": 12.5}, "high below low, open or close"),
        ({"low": 10.5}, "low above open or close"),
        ({"close": 8.5}, "low above open or close"),
        ({"volume": -1.0}, "negative volume"),
        ({"session": date(2030, 1, 2)}, "session in the future"),
        # the first in the order of the contract
        ({"open": None, "volume": -1.0, "session": date(2031, 1, 1)}, "null price or volume"),
    ],
)
def test_check_bars_rejects_a_broken_rule_with_its_reason(change: dict[str, Any], reason: str) -> None:
    longest, earliest = {"symbol": "A" * 50}, {"symbol": "SOUND", "session": date(1900, 1, 2)}
    checked = check_bars(bars_of(longest, earliest, change), TODAY)
    assert checked.accepted["symbol"].to_list() == ["A" * 50, "SOUND"]
    assert checked.rejected.equals(bars_of(change).with_columns(reason=pl.lit(reason)))


def test_check_bars_accepts_one_of_identical_copies() -> None:
    checked = check_bars(bars_of({}, {}, {}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.reasons() == {"duplicate of a symbol and session": 2}
    assert check_bars(bars_of({}, {"symbol": "BBB"}), TODAY).accepted.height == 2


@pytest.mark.parametrize("column", [*PRICE_COLUMNS, "volume"])
def test_check_bars_accepts_none_of_differing_copies(column: str) -> None:
    other = {"open": 10.5, "high": 13.0, "low": 8.0, "close": 10.0, "volume": 101.0}
    checked = check_bars(bars_of({}, {column: other[column]}, {}), TODAY)
    assert checked.accepted.is_empty()
    assert checked.reasons() == {"conflicting duplicate of a symbol and session": 3}


def test_check_bars_ignores_broken_copies_of_a_valid_bar() -> None:
    checked = check_bars(bars_of({}, {"close": None}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.reasons() == {"null price or volume": 1}


def test_reasons_are_sorted_by_count_and_name() -> None:
    bars = bars_of(*numbered(2, volume=-1.0), {"symbol": "B", "open": None}, {"symbol": "C", "high": math.nan})
    assert list(check_bars(bars, TODAY).reasons().items()) == [
        ("negative volume", 2),
        ("non-finite price or volume", 1),
        ("null price or volume", 1),
    ]


def test_check_bars_casts_to_the_schema() -> None:
    as_pandas = {"session": [datetime(2018, 1, 1)], "volume": [100], "exchange": ["X"]}  # noqa: DTZ001 (as pandas gives it)
    raw = pl.DataFrame({name: [value] for name, value in SOUND.items()} | as_pandas)
    accepted = check_bars(raw, TODAY).accepted
    assert dict(accepted.schema) == BAR_SCHEMA
    assert accepted.to_dicts() == [SOUND]


@st.composite
def soiled_bars(draw: st.DrawFn) -> pl.DataFrame:
    """Valid bars of which some are broken, copied or altered, in any order."""
    bars = draw(bar_panels(min_sessions=3, max_sessions=8))
    spoil = st.sampled_from(
        [
            {"close": None},
            {"open": math.nan},
            {"low": -1.0},
            {"volume": -1.0},
            {"session": date(2031, 1, 1)},
            {"high": 0.0},
            {"symbol": None},
            {},
            {"volume": 1.0},
        ]
    )
    rows = bars.to_dicts()
    extra = draw(st.lists(st.tuples(st.sampled_from(rows), spoil), max_size=6))
    every = rows + [row | change for row, change in extra]
    return pl.DataFrame(draw(st.permutations(every)), schema=BAR_SCHEMA, orient="row")


@given(soiled_bars())
def test_check_bars_loses_no_row(bars: pl.DataFrame) -> None:
    checked = check_bars(bars, TODAY)
    together = pl.concat([checked.accepted, checked.rejected.drop("reason")])
    order = list(BAR_SCHEMA)
    assert together.sort(order).equals(bars.sort(order))
    assert checked.rejected_share == checked.rejected.height / bars.height
    assert sum(checked.reasons().values()) == checked.rejected.height
    assert checked.rejected["reason"].null_count() == 0


@given(soiled_bars())
def test_check_bars_accepts_its_own_result(bars: pl.DataFrame) -> None:
    accepted = check_bars(bars, TODAY).accepted
    require_panel(accepted, list(BAR_SCHEMA))
    again = check_bars(accepted, TODAY)
    assert again.accepted.equals(accepted)
    assert again.rejected.is_empty()


@given(bar_panels(min_sessions=1), st.randoms(use_true_random=False))
def test_check_bars_accepts_valid_panels_in_any_order(bars: pl.DataFrame, random: Any) -> None:  # noqa: ANN401 (random.Random)
    rows = bars.to_dicts()
    random.shuffle(rows)
    shuffled = pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")
    assert check_bars(shuffled, TODAY).accepted.equals(bars)


def test_check_bars_names_the_objection_of_a_source_last() -> None:
    bars = bars_of({}, {"symbol": "BBB"}, {"symbol": "CCC", "volume": -1.0}).with_columns(
        objection=pl.Series([None, "bad tick", "bad tick"])
    )
    checked = check_bars(bars, TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.rejected.select("symbol", "reason").rows() == [("BBB", "bad tick"), ("CCC", "negative volume")]
    assert checked.rejected.columns == [*BAR_SCHEMA, "reason"]


def checked_with(sound: int, broken: int) -> CheckedBars:
    rows = numbered(sound) + numbered(broken, symbol="BBB", volume=-1.0)
    return check_bars(bars_of(*rows), TODAY)


@pytest.mark.parametrize(("sound", "limit"), [(99, 0.01), (1, 1.0)], ids=["1 of 100 is 1 %", "1 of 2"])
def test_require_usable_accepts_a_share_at_the_limit(sound: int, limit: float) -> None:
    require_usable(checked_with(sound, 1), limit, "a file")
    require_usable(BarTally().plus(checked_with(sound, 0)).plus(checked_with(0, 1)), limit, "a file")
    require_usable(checked_with(sound, 0), 0.0, "a file")


@pytest.mark.parametrize(
    ("sound", "broken", "limit", "message"),
    [
        (99, 2, 0.01, r"2 of 101 do \(1\.98%\)"),
        (999, 1, 0.0, "1 of 1000 do"),
        (0, 3, 1.0, "3 of 3"),
        (0, 0, 1.0, r"there are no rows\nFirst examples: none"),
        # 25.001 %, which two decimals would print as the 25.00 % allowed
        (74_999, 25_001, 0.25, r"at most 25\.000% break .* 25001 of 100000 do \(25\.001%\)"),
    ],
)
def test_require_usable_refuses_more_than_the_limit(sound: int, broken: int, limit: float, message: str) -> None:
    with pytest.raises(BarContractError, match=message):
        require_usable(BarTally(accepted=sound, rejected=broken), limit, "a file")
    if broken < 10:
        with pytest.raises(BarContractError, match=message):
            require_usable(checked_with(sound, broken), limit, "a file")


@pytest.mark.parametrize(
    ("sound", "broken", "advice"),
    # 6 of 61 are 9.8 %, 3 of 100 are 3 %; no share makes a source without a bar usable
    [(55, 6, "BOURSOMATIC_MAX_REJECTED_SHARE=0.1 "), (97, 3, "SHARE=0.03 "), (0, 5, "--path FILE")],
)
def test_require_usable_advises_a_share_that_suffices(sound: int, broken: int, advice: str) -> None:
    with pytest.raises(BarContractError, match=advice):
        require_usable(checked_with(sound, broken), 0.01, "a file")


@pytest.mark.parametrize(("isolated", "is_refused"), [(25, False), (26, True)])
def test_require_usable_counts_isolated_prices_only_if_they_are_a_quarter(
    isolated: int, *, is_refused: bool
) -> None:
    # They keep the contract; that they are set aside does not make a source a broken one. 26 of 100 would.
    reasons = {ISOLATED: isolated - 5, NO_TRADE: 5}
    tally = BarTally(accepted=100 - isolated, rejected=isolated, reasons=reasons)
    assert (tally.broken, tally.rejected_share) == (isolated if is_refused else 0, isolated / 100)
    if not is_refused:
        require_usable(tally, 0.0, "a file")
        return
    with pytest.raises(BarContractError, match="26 of 100 do"):
        require_usable(tally, 0.25, "a file")


def test_require_usable_lists_reasons_counts_and_examples() -> None:
    rows = [*numbered(6, symbol="BBB", volume=-1.0), {"symbol": "CCC", "open": None}]
    with pytest.raises(BarContractError) as caught:
        require_usable(check_bars(bars_of({}, *rows), TODAY), 0.5, "prices.parquet")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("prices.parquet: expected bars of which at most 50.00% break")
    # 7 of 8 rows: 87.5 %
    assert "7 of 8 do (87.50%)" in lines[0]
    assert lines[1:4] == ["Reasons:", "  6 x negative volume", "  1 x null price or volume"]
    examples = lines[5:-1]
    assert lines[4] == "First examples:"
    assert len(examples) == EXAMPLES_IN_A_MESSAGE == 5
    prices = "open=10.0 high=12.0 low=9.0 close=11.0 volume=-1.0"
    assert examples[0].strip() == f"symbol=BBB session=2018-01-01 {prices} reason=negative volume"
    assert "BOURSOMATIC_MAX_REJECTED_SHARE" in lines[-1]


def test_bar_tally_adds_up_pieces() -> None:
    # 3 sound and 1 broken bar, then 2 and 2, then 0 and 0: 5 and 3 of 8, which is 0.375
    tally = BarTally().plus(checked_with(3, 1)).plus(checked_with(2, 2)).plus(checked_with(0, 0))
    assert (tally.accepted, tally.rejected, tally.rejected_share) == (5, 3, 0.375)
    assert tally.reasons == {"negative volume": 3}
    assert tally.examples["session"].to_list() == [*weekdays(1), *weekdays(2)]
    assert BarTally().rejected_share == 0.0
    assert BarTally().plus(checked_with(0, 0)).examples.is_empty()


def test_bar_tally_sorts_reasons_by_count_and_name() -> None:
    first = check_bars(bars_of({"open": None}, *numbered(2, symbol="B", volume=-1.0)), TODAY)
    second = check_bars(bars_of(*numbered(2, symbol="C", open=None), {"high": math.nan}), TODAY)
    # nulls: 1 + 2; negative volumes: 2 + 0; not a number: 0 + 1
    assert list(BarTally().plus(first).plus(second).reasons.items()) == [
        ("null price or volume", 3),
        ("negative volume", 2),
        ("non-finite price or volume", 1),
    ]
    tie = BarTally().plus(second).plus(check_bars(bars_of({"high": math.nan}), TODAY))
    assert list(tie.reasons) == ["non-finite price or volume", "null price or volume"]


def test_bar_tally_keeps_the_first_twenty_examples() -> None:
    tally = BarTally()
    for symbol, count in (("AAA", 13), ("BBB", 13), ("CCC", 13)):
        tally = tally.plus(check_bars(bars_of(*numbered(count, symbol=symbol, volume=-1.0)), TODAY))
    # 13 of the first piece, 20 - 13 = 7 of the second, none of the third; all 39 are counted
    assert EXAMPLES_KEPT == 20
    assert tally.examples["symbol"].to_list() == ["AAA"] * 13 + ["BBB"] * 7
    assert tally.rejected == tally.reasons["negative volume"] == 39


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=5))
def test_bar_tally_of_pieces_counts_the_whole(pieces: list[tuple[int, int]]) -> None:
    tally = BarTally()
    for sound, broken in pieces:
        tally = tally.plus(checked_with(sound, broken))
    assert tally.accepted == sum(sound for sound, _ in pieces)
    assert tally.rejected == sum(broken for _, broken in pieces)
    assert tally.examples.height == min(tally.rejected, 20)
    assert sum(tally.reasons.values()) == tally.rejected


def test_require_panel_accepts_gaps_more_columns_and_no_rows() -> None:
    require_panel(flat_bars({"AAA": [1.0, None, 2.0], "BBB": [3.0]}), ["close"])
    require_panel(bars_of(), ["close"])


@pytest.mark.parametrize(
    ("order", "first", "count"),
    [
        ([1, 0, 2], "'AAA' 2018-01-01", 1),
        ([0, 0, 1, 2], "'AAA' 2018-01-01", 1),
        ([2, 0, 1], "'AAA' 2018-01-01", 1),
        ([2, 1, 0], "'AAA' 2018-01-02", 2),
        ([0, 2, 1], "'AAA' 2018-01-02", 1),
    ],
    ids=["sessions swapped", "a row twice", "symbols swapped", "reversed", "symbols interleaved"],
)
def test_require_panel_names_the_first_row_out_of_order(order: list[int], first: str, count: int) -> None:
    panel = flat_bars({"AAA": [1.0, 2.0], "BBB": [3.0]})
    with pytest.raises(PanelContractError) as caught:
        require_panel(panel[order])
    assert f"{first} after a later or equal row ({count} such rows)" in str(caught.value)


@pytest.mark.parametrize("column", PANEL_KEY)
def test_require_panel_refuses_a_null_key(column: str) -> None:
    panel = flat_bars({"AAA": [1.0, 2.0]}).with_columns(
        pl.when(pl.col("close") == 2.0).then(None).otherwise(pl.col(column)).alias(column)
    )
    with pytest.raises(PanelContractError):
        require_panel(panel)


def test_missing_columns_are_named() -> None:
    with pytest.raises(PanelContractError, match=r"missing \['adj_close', 'vwap'\]"):
        require_panel(flat_bars({"AAA": [1.0]}), ["close", "adj_close", "vwap"])
    with pytest.raises(PanelContractError, match=r"missing \['low'\]"):
        check_bars(bars_of({}).drop("low"), TODAY)


def test_symbol_groups_end_with_the_symbol_that_reaches_the_limit() -> None:
    counts = pl.DataFrame({"symbol": ["C", "A", "D", "B", "E"], "rows": [4, 3, 3, 12, 1]})
    # Before each symbol there are 0, 4, 7, 10 and 22 rows: of groups of ten that is 0, 0, 0, 1 and 2.
    assert symbol_groups(counts, 10) == [["C", "A", "D"], ["B"], ["E"]]
