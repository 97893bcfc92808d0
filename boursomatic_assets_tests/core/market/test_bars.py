from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boursomatic_assets.core.market.adjusted_close import BAD_FACTOR, scale_to_adjusted
from boursomatic_assets.core.market.bars import (
    BAR_SCHEMA,
    EXAMPLES_IN_A_MESSAGE,
    EXAMPLES_KEPT,
    INSTRUMENT_SCHEMA,
    PANEL_KEY,
    PRICE_COLUMNS,
    BarTally,
    CheckedBars,
    check_bars,
    require_panel,
    require_usable,
    symbol_groups,
)
from boursomatic_assets.core.market.fingerprints import fingerprint
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


def test_a_sound_bar_is_accepted_as_it_is() -> None:
    checked = check_bars(bars_of({}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.rejected.is_empty()
    assert checked.rejected_share == 0.0
    assert checked.reasons() == {}


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
def test_a_bar_at_the_edge_of_a_rule_is_accepted(change: dict[str, Any]) -> None:
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
def test_a_high_or_low_that_misses_a_price_by_rounding_is_that_price(
    change: dict[str, Any], high: float, low: float
) -> None:
    row = bars_of(change).with_columns(low=pl.min_horizontal("low", "high"))
    accepted = check_bars(row, TODAY).accepted.row(0, named=True)
    assert (accepted["high"], accepted["low"]) == (high, low)


def test_beyond_rounding_a_bar_is_set_aside_as_it_came() -> None:
    # 3e-9 of 11 is 3.3e-8
    checked = check_bars(bars_of({"high": 11.0 - 3.3e-8}, {"low": 10.0 + 3.3e-8}), TODAY)
    assert checked.rejected["high"].to_list() == [11.0 - 3.3e-8, 12.0]
    assert sorted(checked.rejected["reason"]) == ["high below low, open or close", "low above open or close"]
    # A bar that is set aside for another reason keeps what it came with.
    rounded = math.nextafter(11.0, 0.0)
    aside = check_bars(bars_of({"high": rounded, "volume": -1.0}), TODAY).rejected
    assert aside["high"].to_list() == [rounded]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"symbol": "A" * 51}, "symbol of 51 letters; at most 50 are kept"),
        ({"symbol": "A\x00"}, "control character in the symbol"),
        ({"symbol": "A\nB"}, "control character in the symbol"),
        ({"session": date(1, 1, 1)}, "date before 1900 or a placeholder"),
        ({"session": date(1899, 12, 31)}, "date before 1900 or a placeholder"),
        ({"session": date(1900, 1, 1)}, "date before 1900 or a placeholder"),
        ({"session": date(1970, 1, 1)}, "date before 1900 or a placeholder"),
    ],
)
def test_a_symbol_or_date_that_cannot_be_is_set_aside(change: dict[str, Any], reason: str) -> None:
    assert check_bars(bars_of(change), TODAY).rejected["reason"].to_list() == [reason]
    sound = {"symbol": "A" * 50, "session": date(1900, 1, 2)}
    assert check_bars(bars_of(sound), TODAY).rejected.is_empty()


def test_what_could_not_be_read_comes_first_and_counts_by_its_kind() -> None:
    bars = bars_of({"open": None}, {"open": None, "session": date(2018, 1, 2)}, {"volume": -1.0}).with_columns(
        unread=pl.Series(["not a number: 1,105", "not a number: ten", None]),
    )
    checked = check_bars(bars, TODAY)
    assert sorted(checked.rejected["reason"]) == ["negative volume", "not a number: 1,105", "not a number: ten"]
    assert checked.reasons() == {"not a number": 2, "negative volume": 1}


def test_a_tally_knows_the_symbols_of_accepted_bars() -> None:
    tally = BarTally().plus(check_bars(bars_of({}, {"symbol": "BBB", "close": -1.0}), TODAY))
    assert tally.plus(check_bars(bars_of({"symbol": "CCC"}), TODAY)).symbols == {"AAA", "CCC"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"symbol": None}, "null symbol or session"),
        ({"session": None}, "null symbol or session"),
        *(({name: None}, "null price or volume") for name in (*PRICE_COLUMNS, "volume")),
        *(({name: math.nan}, "non-finite price or volume") for name in (*PRICE_COLUMNS, "volume")),
        ({"high": math.inf}, "non-finite price or volume"),
        ({"low": -math.inf}, "non-finite price or volume"),
        ({"volume": math.inf}, "non-finite price or volume"),
        *(({name: 0.0}, "non-positive price") for name in PRICE_COLUMNS),
        *(({name: -1.0}, "non-positive price") for name in PRICE_COLUMNS),
        ({"high": 8.0}, "high below low, open or close"),
        ({"high": 10.5}, "high below low, open or close"),
        ({"open": 12.5}, "high below low, open or close"),
        ({"low": 10.5}, "low above open or close"),
        ({"close": 8.5}, "low above open or close"),
        ({"volume": -1.0}, "negative volume"),
        ({"session": date(2030, 1, 2)}, "session in the future"),
    ],
)
def test_a_broken_rule_sets_the_bar_aside_with_its_reason(change: dict[str, Any], reason: str) -> None:
    sound = {"symbol": "SOUND"}
    checked = check_bars(bars_of(sound, change), TODAY)
    assert checked.accepted["symbol"].to_list() == ["SOUND"]
    assert checked.rejected.equals(bars_of(change).with_columns(reason=pl.lit(reason)))


def test_a_bar_that_breaks_several_rules_is_given_the_first_reason() -> None:
    # null price, negative volume and a future session: the null comes first in the contract
    checked = check_bars(bars_of({"open": None, "volume": -1.0, "session": date(2031, 1, 1)}), TODAY)
    assert checked.reasons() == {"null price or volume": 1}


def test_of_exact_copies_one_is_accepted() -> None:
    checked = check_bars(bars_of({}, {}, {}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.reasons() == {"duplicate of a symbol and session": 2}


@pytest.mark.parametrize("column", [*PRICE_COLUMNS, "volume"])
def test_of_copies_that_differ_none_is_accepted(column: str) -> None:
    other = {"open": 10.5, "high": 13.0, "low": 8.0, "close": 10.0, "volume": 101.0}
    checked = check_bars(bars_of({}, {column: other[column]}, {}), TODAY)
    assert checked.accepted.is_empty()
    assert checked.reasons() == {"conflicting duplicate of a symbol and session": 3}


def test_a_broken_copy_does_not_condemn_the_sound_one() -> None:
    checked = check_bars(bars_of({}, {"close": None}), TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.reasons() == {"null price or volume": 1}


def test_the_same_session_of_two_symbols_is_no_duplicate() -> None:
    assert check_bars(bars_of({}, {"symbol": "BBB"}), TODAY).accepted.height == 2


def test_reasons_are_counted_the_most_frequent_first_and_ties_by_name() -> None:
    checked = check_bars(
        bars_of(*numbered(2, volume=-1.0), {"symbol": "B", "open": None}, {"symbol": "C", "high": math.nan}), TODAY
    )
    assert list(checked.reasons().items()) == [
        ("negative volume", 2),
        ("non-finite price or volume", 1),
        ("null price or volume", 1),
    ]


def test_types_that_a_source_brings_become_the_contracts_types() -> None:
    raw = pl.DataFrame(
        {name: [value] for name, value in SOUND.items()}
        | {"session": [datetime(2018, 1, 1)], "volume": [100], "exchange": ["X"]},  # noqa: DTZ001 (as pandas gives it)
    )
    accepted = check_bars(raw, TODAY).accepted
    assert dict(accepted.schema) == BAR_SCHEMA
    assert accepted.to_dicts() == [SOUND]


def test_bars_without_a_column_are_refused_by_its_name() -> None:
    with pytest.raises(PanelContractError, match=r"missing \['low'\]"):
        check_bars(bars_of({}).drop("low"), TODAY)


def test_no_rows_give_no_rows() -> None:
    checked = check_bars(bars_of(), TODAY)
    assert checked.accepted.is_empty()
    assert checked.rejected.is_empty()
    assert checked.rejected_share == 0.0


@st.composite
def soiled_bars(draw: st.DrawFn) -> pl.DataFrame:
    """Lawful bars of which some are broken, copied or altered, in any order."""
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
def test_accepted_and_rejected_rows_together_are_the_rows_that_came(bars: pl.DataFrame) -> None:
    checked = check_bars(bars, TODAY)
    together = pl.concat([checked.accepted, checked.rejected.drop("reason")])
    order = list(BAR_SCHEMA)
    assert together.sort(order).equals(bars.sort(order))
    assert checked.rejected_share == checked.rejected.height / bars.height
    assert sum(checked.reasons().values()) == checked.rejected.height
    assert checked.rejected["reason"].null_count() == 0


@given(soiled_bars())
def test_accepted_bars_are_a_panel_that_passes_again(bars: pl.DataFrame) -> None:
    accepted = check_bars(bars, TODAY).accepted
    require_panel(accepted, list(BAR_SCHEMA))
    again = check_bars(accepted, TODAY)
    assert again.accepted.equals(accepted)
    assert again.rejected.is_empty()


@given(bar_panels(min_sessions=1, max_sessions=20), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_matters(bars: pl.DataFrame, random: Any) -> None:  # noqa: ANN401 (random.Random)
    rows = bars.to_dicts()
    random.shuffle(rows)
    shuffled = pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")
    assert check_bars(shuffled, TODAY).accepted.equals(bars)


@given(bar_panels(min_sessions=1))
def test_the_panels_these_tests_draw_are_lawful(bars: pl.DataFrame) -> None:
    assert check_bars(bars, TODAY).accepted.equals(bars)


def test_the_random_walks_these_tests_use_are_lawful() -> None:
    bars = random_walk_bars(symbols=5, sessions=50, seed=1)
    assert check_bars(bars, TODAY).accepted.equals(bars)


def adjusted(**change: object) -> pl.DataFrame:
    """The sound bar with an adjusted close of 5.5 and the values given, scaled."""
    values = SOUND | {"adj_close": 5.5} | change
    return scale_to_adjusted(pl.DataFrame([values], schema={**BAR_SCHEMA, "adj_close": pl.Float64()}, orient="row"))


def test_a_whole_bar_is_scaled_by_the_adjusted_over_the_raw_close() -> None:
    # factor 5.5 / 11 = 0.5; the volume stays
    assert adjusted().to_dicts() == [SOUND | {"open": 5.0, "high": 6.0, "low": 4.5, "close": 5.5}]


@pytest.mark.parametrize("adj_close", [-5.5, 0.0, None, math.nan, math.inf])
def test_a_missing_or_impossible_adjusted_close_is_rejected(adj_close: float | None) -> None:
    checked = check_bars(adjusted(adj_close=adj_close), TODAY)
    assert checked.accepted.is_empty()
    assert checked.rejected.height == 1


@pytest.mark.parametrize("adj_close", [-5.5, 0.0])
def test_a_bar_whose_adjusted_close_is_not_positive_stays_as_it_came_and_says_so(adj_close: float) -> None:
    # factor -5.5 / 11 = -0.5 would turn every price negative, and 0 / 11 every price to nothing
    scaled = adjusted(adj_close=adj_close)
    assert scaled.to_dicts() == [SOUND | {"objection": "negative or absurd adjusted close"}]
    checked = check_bars(scaled, TODAY)
    assert checked.rejected.to_dicts() == [SOUND | {"reason": BAD_FACTOR}]


def test_what_a_source_itself_objects_to_is_set_aside_behind_the_contracts_own_reasons() -> None:
    bars = bars_of({}, {"symbol": "BBB"}, {"symbol": "CCC", "volume": -1.0}).with_columns(
        objection=pl.Series([None, "bad tick", "bad tick"])
    )
    checked = check_bars(bars, TODAY)
    assert checked.accepted.to_dicts() == [SOUND]
    assert checked.rejected.select("symbol", "reason").rows() == [("BBB", "bad tick"), ("CCC", "negative volume")]
    assert checked.rejected.columns == [*BAR_SCHEMA, "reason"]


@pytest.mark.parametrize("close", [0.0, None, math.nan, -11.0])
def test_an_unusable_close_is_rejected_whatever_the_adjusted_close(close: float | None) -> None:
    assert check_bars(adjusted(close=close), TODAY).accepted.is_empty()


@pytest.mark.parametrize("adj_close", [-10.0, 10.0])
def test_negative_prices_are_never_turned_into_positive_ones(adj_close: float) -> None:
    # -10 * (10 / -10) = 10: the factor alone would make a lawful bar of an unlawful one
    scaled = adjusted(open=-10.0, high=-10.0, low=-10.0, close=-10.0, adj_close=adj_close)
    assert check_bars(scaled, TODAY).accepted.is_empty()


@given(bar_panels(min_sessions=1, max_sessions=20), st.floats(1e-6, 1.05, exclude_max=True))
def test_scaling_keeps_a_lawful_bar_lawful_and_its_returns(bars: pl.DataFrame, factor: float) -> None:
    scaled = scale_to_adjusted(bars.with_columns(adj_close=pl.col("close") * factor))
    assert check_bars(scaled, TODAY).rejected.is_empty()
    np.testing.assert_allclose(scaled["close"], bars["close"] * factor, rtol=1e-12)


def test_the_bundled_sample_keeps_the_contract_whole(adjusted_sample: pl.DataFrame) -> None:
    assert adjusted_sample.height == 12_154
    assert sorted(adjusted_sample["symbol"].unique()) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


def checked_with(sound: int, broken: int) -> CheckedBars:
    rows = numbered(sound) + numbered(broken, symbol="BBB", volume=-1.0)
    return check_bars(bars_of(*rows), TODAY)


def test_a_source_exactly_at_the_limit_is_usable() -> None:
    # 1 of 100 rows is 1 %, and 0.01 of them are allowed
    require_usable(checked_with(99, 1), 0.01, "a file")


def test_a_source_just_beyond_the_limit_is_refused() -> None:
    # 2 of 101 rows are 1.98 %
    with pytest.raises(BarContractError, match=r"2 of 101 do \(1\.98%\)"):
        require_usable(checked_with(99, 2), 0.01, "a file")


def test_a_limit_of_zero_allows_no_broken_row_and_no_fewer() -> None:
    require_usable(checked_with(1, 0), 0.0, "a file")
    with pytest.raises(BarContractError):
        require_usable(checked_with(999, 1), 0.0, "a file")


def test_a_source_without_any_sound_row_is_refused_at_any_limit() -> None:
    with pytest.raises(BarContractError, match="3 of 3"):
        require_usable(checked_with(0, 3), 1.0, "a file")


def test_an_empty_source_is_refused_and_says_so() -> None:
    with pytest.raises(BarContractError, match=r"there are no rows\nFirst examples: none"):
        require_usable(check_bars(bars_of(), TODAY), 1.0, "a file")


def test_a_share_that_is_refused_reads_as_more_than_is_allowed() -> None:
    # 25,001 of 100,000 are 25.001 %, which two decimals would print as the 25.00 % allowed.
    with pytest.raises(BarContractError, match=r"at most 25\.000% break .* 25001 of 100000 do \(25\.001%\)"):
        require_usable(BarTally(accepted=74_999, rejected=25_001), 0.25, "prices.parquet")


def test_the_refusal_lists_reasons_counts_and_the_first_examples() -> None:
    rows = [
        *numbered(6, symbol="BBB", volume=-1.0),
        {"symbol": "CCC", "open": None},
    ]
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
    assert examples[0].split() == [
        "symbol=BBB",
        "session=2018-01-01",
        "open=10.0",
        "high=12.0",
        "low=9.0",
        "close=11.0",
        "volume=-1.0",
        *["reason=negative", "volume"],
    ]
    assert "BOURSOMATIC_MAX_REJECTED_SHARE" in lines[-1]


def test_a_tally_adds_up_pieces() -> None:
    # 3 sound and 1 broken bar, then 2 and 2, then 0 and 0: 5 and 3 of 8, which is 0.375
    tally = BarTally().plus(checked_with(3, 1)).plus(checked_with(2, 2)).plus(checked_with(0, 0))
    assert (tally.accepted, tally.rejected, tally.rejected_share) == (5, 3, 0.375)
    assert tally.reasons == {"negative volume": 3}
    assert tally.examples["session"].to_list() == [*weekdays(1), *weekdays(2)]


def test_a_tally_of_nothing_says_nothing() -> None:
    assert BarTally().rejected_share == 0.0
    assert BarTally().plus(checked_with(0, 0)).examples.is_empty()


def test_a_tally_lists_reasons_the_most_frequent_first_and_ties_by_name() -> None:
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


def test_a_tally_keeps_the_first_examples_and_no_more() -> None:
    tally = BarTally()
    for symbol, count in (("AAA", 13), ("BBB", 13), ("CCC", 13)):
        tally = tally.plus(check_bars(bars_of(*numbered(count, symbol=symbol, volume=-1.0)), TODAY))
    # 13 of the first piece, 20 - 13 = 7 of the second, none of the third; all 39 are counted
    assert EXAMPLES_KEPT == 20
    assert tally.examples["symbol"].to_list() == ["AAA"] * 13 + ["BBB"] * 7
    assert tally.rejected == tally.reasons["negative volume"] == 39


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=5))
def test_a_tally_in_pieces_is_a_tally_of_the_whole(pieces: list[tuple[int, int]]) -> None:
    tally = BarTally()
    for sound, broken in pieces:
        tally = tally.plus(checked_with(sound, broken))
    assert tally.accepted == sum(sound for sound, _ in pieces)
    assert tally.rejected == sum(broken for _, broken in pieces)
    assert tally.examples.height == min(tally.rejected, 20)
    assert sum(tally.reasons.values()) == tally.rejected


def test_a_tally_is_judged_like_the_bars_it_counts() -> None:
    pieces = BarTally().plus(checked_with(50, 1)).plus(checked_with(49, 0))
    require_usable(pieces, 0.01, "a file")
    with pytest.raises(BarContractError, match=r"2 of 101 do \(1\.98%\)"):
        require_usable(pieces.plus(checked_with(0, 1)), 0.01, "a file")
    with pytest.raises(BarContractError, match="there are no rows"):
        require_usable(BarTally(), 1.0, "a file")


def test_a_panel_may_have_gaps_and_more_columns_than_needed() -> None:
    require_panel(flat_bars({"AAA": [1.0, None, 2.0], "BBB": [3.0]}), ["close"])


def test_an_empty_panel_is_a_panel() -> None:
    require_panel(bars_of(), ["close"])


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ([1, 0, 2], "'AAA' 2018-01-01 after a later or equal row (1 such rows)"),
        ([0, 0, 1, 2], "'AAA' 2018-01-01 after a later or equal row (1 such rows)"),
        ([2, 0, 1], "'AAA' 2018-01-01 after a later or equal row (1 such rows)"),
        ([2, 1, 0], "'AAA' 2018-01-02 after a later or equal row (2 such rows)"),
    ],
    ids=["sessions swapped", "a row twice", "symbols swapped", "reversed"],
)
def test_a_panel_unsorted_or_duplicated_names_the_first_offending_row(order: list[int], found: str) -> None:
    panel = flat_bars({"AAA": [1.0, 2.0], "BBB": [3.0]})
    with pytest.raises(PanelContractError) as caught:
        require_panel(panel[order])
    assert found in str(caught.value)


def test_a_panel_with_the_symbols_interleaved_is_refused() -> None:
    panel = flat_bars({"AAA": [1.0, 2.0], "BBB": [3.0, 4.0]}).sort("session", "symbol")
    with pytest.raises(PanelContractError):
        require_panel(panel)


@pytest.mark.parametrize("column", PANEL_KEY)
def test_a_panel_with_a_null_key_is_refused(column: str) -> None:
    panel = flat_bars({"AAA": [1.0, 2.0]}).with_columns(
        pl.when(pl.col("close") == 2.0).then(None).otherwise(pl.col(column)).alias(column)
    )
    with pytest.raises(PanelContractError):
        require_panel(panel)


def test_a_panel_without_a_column_is_refused_by_its_name() -> None:
    with pytest.raises(PanelContractError, match=r"missing \['adj_close', 'vwap'\]"):
        require_panel(flat_bars({"AAA": [1.0]}), ["close", "adj_close", "vwap"])


def test_the_key_is_part_of_both_schemas_where_it_belongs() -> None:
    assert list(BAR_SCHEMA)[:2] == PANEL_KEY
    assert "symbol" in INSTRUMENT_SCHEMA


MIXED = pl.DataFrame(
    {
        "symbol": ["AAA", "AAA", "BBB"],
        "session": weekdays(3),
        "close": [1.0, None, 3.0],
        "splits": [0, 1, None],
        "active": [True, False, None],
        "label": pl.Series(["BUY", None, "SELL"], dtype=pl.Enum(["BUY", "HOLD", "SELL"])),
    }
)


@pytest.mark.parametrize(
    "other",
    [
        MIXED.with_columns(close=pl.Series([1.0, None, 3.0000000000000004])),
        MIXED.with_columns(close=pl.Series([1.0, 0.0, 3.0])),
        MIXED.with_columns(close=pl.Series([1.0, math.nan, 3.0])),
        MIXED.with_columns(close=pl.Series([None, 1.0, 3.0])),
        MIXED.with_columns(splits=pl.Series([0, 1, 0])),
        MIXED.with_columns(splits=pl.Series([0, 2, None])),
        MIXED.with_columns(active=pl.Series([True, False, False])),
        MIXED.with_columns(active=pl.Series([True, True, None])),
        MIXED.with_columns(symbol=pl.Series(["AAA", "AAB", "BBB"])),
        MIXED.with_columns(symbol=pl.Series(["AAA", "AA", "ABBB"])),
        MIXED.with_columns(symbol=pl.Series(["AAA", None, "BBB"])),
        MIXED.with_columns(session=pl.Series([*weekdays(2), date(2018, 1, 4)])),
        MIXED.with_columns(session=pl.Series([*weekdays(2), None])),
        MIXED.with_columns(label=pl.Series(["BUY", "HOLD", "SELL"], dtype=pl.Enum(["BUY", "HOLD", "SELL"]))),
        MIXED.rename({"close": "open"}),
        MIXED.cast({"close": pl.Float32}),
        MIXED.cast({"splits": pl.Int32}),
        MIXED.cast({"label": pl.String}),
        MIXED.select(*MIXED.columns[1:], MIXED.columns[0]),
        MIXED.reverse(),
        MIXED.head(2),
        MIXED.drop("active"),
    ],
)
def test_any_change_of_a_frame_changes_its_fingerprint(other: pl.DataFrame) -> None:
    assert fingerprint(other) != fingerprint(MIXED)


def test_an_empty_text_and_a_null_differ_in_the_fingerprint() -> None:
    empty, null = (pl.DataFrame({"name": [text]}, schema={"name": pl.String}) for text in ("", None))
    assert fingerprint(empty) != fingerprint(null)


def test_equal_content_has_an_equal_fingerprint_whatever_its_chunks() -> None:
    chunked = pl.concat([MIXED[i : i + 1] for i in range(3)], rechunk=False)
    assert chunked.n_chunks() == 3
    assert fingerprint(chunked) == fingerprint(MIXED)
    # the values under a null may differ in memory, the content does not
    hidden = MIXED.with_columns(close=pl.when(pl.int_range(pl.len()) != 1).then(pl.Series([1.0, 77.0, 3.0])))
    assert hidden.equals(MIXED)
    assert fingerprint(hidden) == fingerprint(MIXED)


def test_a_fingerprint_is_64_hexadecimal_digits() -> None:
    assert len(fingerprint(MIXED)) == 64
    assert int(fingerprint(MIXED), 16) > 0


TEXTS = st.lists(st.none() | st.text(), max_size=4)


@given(TEXTS, TEXTS)
@example(["a\x1fb", "c"], ["a", "b\x1fc"])
def test_texts_have_one_fingerprint_only_if_they_are_the_same(one: list[str], other: list[str]) -> None:
    frames = [pl.DataFrame({"name": texts}, schema={"name": pl.String}) for texts in (one, other)]
    assert (fingerprint(frames[0]) == fingerprint(frames[1])) == (one == other)


NUMBERS = st.lists(st.none() | st.floats(allow_nan=False).map(lambda x: x + 0.0), max_size=4)


@given(NUMBERS, NUMBERS)
@example([0.0], [None])
def test_numbers_have_one_fingerprint_only_if_they_are_the_same(one: list[float], other: list[float]) -> None:
    frames = [pl.DataFrame({"close": numbers}, schema={"close": pl.Float64}) for numbers in (one, other)]
    assert (fingerprint(frames[0]) == fingerprint(frames[1])) == (one == other)


def test_symbols_are_grouped_in_their_order_and_the_one_that_reaches_the_limit_ends_a_group() -> None:
    counts = pl.DataFrame({"symbol": ["C", "A", "D", "B", "E"], "rows": [4, 3, 3, 12, 1]})
    # Before each symbol there are 0, 4, 7, 10 and 22 rows: of groups of ten that is 0, 0, 0, 1 and 2.
    assert symbol_groups(counts, 10) == [["C", "A", "D"], ["B"], ["E"]]
