from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from boursomatic_assets.core.market.corporate_actions import ADJUSTMENT_SCHEMA, apply_adjustments
from boursomatic_assets.core.market.vendor_actions import (
    ACTION_SCHEMA,
    applied_ratios,
    noted_adjustments,
    ratios_of,
    with_actions,
    without_later_splits,
)

# A Wednesday to the next Wednesday; Saturday and Sunday have no bar.
DAYS = [date(2024, 5, day) for day in (1, 2, 3, 6, 7, 8)]
CLOSES = [200.0, 210.0, 200.0, 50.0, 52.0, 51.0]
# 4 for 1 on the 6th, after 2.00 a share on the 3rd. Factor before the 6th: 1/4. Before the 3rd: 1/4 * (1 - 2/210).
DIVIDEND, SPLIT = 1 - 2 / 210, 1 / 4
FACTORS = [SPLIT * DIVIDEND, SPLIT * DIVIDEND, SPLIT, 1.0, 1.0, 1.0]
NOTHING = pl.DataFrame(schema=ADJUSTMENT_SCHEMA)


def bars(factors: list[float] | None = None, closes: list[float] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame({"symbol": "X", "session": DAYS, "close": closes or CLOSES})
    return frame.with_columns(adj_close=pl.col("close") * pl.Series(factors or FACTORS))


def events(name: str, values: dict[date, float]) -> pl.DataFrame:
    schema = {"session": pl.Date, name: pl.Float64}
    return pl.DataFrame(list(values.items()), schema=schema, orient="row")


def stated(
    frame: pl.DataFrame, splits: dict[date, float], dividends: dict[date, float], resolution: float = 1e-7
) -> dict[date, tuple[float, float, float | None, str | None]]:
    found = with_actions(frame, events("split", splits), events("dividend", dividends), resolution)
    assert found.select("symbol", "session", "close").equals(frame.select("symbol", "session", "close"))
    rows = found.drop_nulls("split").select("session", "split", "dividend", "ratio", "doubt").rows()
    return {session: (split, dividend, ratio, doubt) for session, split, dividend, ratio, doubt in rows}


def test_splits_and_dividends_give_the_ratios_of_the_tables() -> None:
    found = stated(bars(), {date(2024, 5, 6): 4.0}, {date(2024, 5, 3): 2.0})
    assert found == {
        date(2024, 5, 3): (1.0, 2.0, pytest.approx(DIVIDEND, rel=1e-15), None),
        date(2024, 5, 6): (4.0, 0.0, 0.25, None),
    }


def test_a_split_and_a_dividend_of_one_session_are_one_ratio() -> None:
    # 0.50 per new share: before the 6th, 1/4 - 0.5/200
    ratio = 1 / 4 - 0.5 / 200
    found = stated(
        bars([ratio, ratio, ratio, 1, 1, 1]),
        {date(2024, 5, 6): 4.0},
        {date(2024, 5, 6): 0.25, date(2024, 5, 4): 0.25},
    )
    # the dividend of Saturday the 4th counts for Monday the 6th
    assert found == {date(2024, 5, 6): (4.0, 0.5, pytest.approx(ratio, rel=1e-15), None)}


def test_an_event_that_is_stated_twice_is_one() -> None:
    twice = pl.concat([events("split", {date(2024, 5, 6): 4.0})] * 2)
    found = with_actions(bars([0.25] * 3 + [1.0] * 3), twice, events("dividend", {}), 1e-7)
    assert found.drop_nulls("ratio").select("split", "ratio", "doubt").rows() == [(4.0, 0.25, None)]


def test_events_before_the_first_and_after_the_last_bar_are_none() -> None:
    early_and_late = {date(2024, 5, 1): 4.0, date(2024, 4, 1): 3.0, date(2024, 5, 9): 2.0}
    assert stated(bars([1.0] * 6), early_and_late, {}) == {}


def test_an_adjusted_close_of_four_decimals_does_not_round_the_ratio() -> None:
    rounded = bars().with_columns(pl.col("adj_close").round(4))
    found = stated(rounded, {date(2024, 5, 6): 4.0}, {date(2024, 5, 3): 2.0}, resolution=1e-4)
    assert found[date(2024, 5, 3)][2] == pytest.approx(DIVIDEND, rel=1e-15)


def test_where_table_and_adjusted_close_disagree_the_vendors_adjusted_bars_are_kept_and_it_is_said() -> None:
    # the table says 20.00 for 2.00: 1 - 20/210 = 0.904762, while the adjusted close steps by 1 - 2/210 = 0.990476
    found = stated(bars(), {date(2024, 5, 6): 4.0}, {date(2024, 5, 3): 20.0})
    said = "its adjusted close steps by 0.990476 on 2024-05-03, its splits and dividends by 0.904762"
    assert found[date(2024, 5, 3)] == (1.0, 20.0, pytest.approx(DIVIDEND), said)


def test_a_dividend_in_whole_cents_that_differs_by_little_is_not_worth_a_word() -> None:
    # 2.10 for 2.00: the ratios differ by 0.1/210 = 0.0005
    assert stated(bars(), {date(2024, 5, 6): 4.0}, {date(2024, 5, 3): 2.1})[date(2024, 5, 3)][3] is None


def test_a_step_of_the_adjusted_close_without_an_event_is_taken_and_said() -> None:
    found = stated(bars(), {date(2024, 5, 6): 4.0}, {})
    said = "its adjusted close steps by 0.990476 on 2024-05-03 without a split or a dividend"
    assert found[date(2024, 5, 3)] == (1.0, 0.0, pytest.approx(DIVIDEND), said)


def test_an_event_that_the_adjusted_close_does_not_know_yet_is_applied_and_said() -> None:
    found = stated(bars([1.0] * 6), {date(2024, 5, 6): 4.0}, {})
    assert found[date(2024, 5, 6)][:3] == (4.0, 0.0, 0.25)
    assert "steps by 1 on 2024-05-06, its splits and dividends by 0.25" in str(found[date(2024, 5, 6)][3])


def test_a_dividend_above_the_price_is_no_ratio() -> None:
    flat = stated(bars([1.0] * 6), {}, {date(2024, 5, 3): 250.0})
    assert flat[date(2024, 5, 3)][2] is None
    assert "its splits and dividends by -0.190476" in str(flat[date(2024, 5, 3)][3])


def test_rounding_alone_is_no_step() -> None:
    # closes of 0.01 with four decimals: 0.0003 and 0.0004 may be one factor
    tiny = pl.DataFrame({"symbol": "X", "session": DAYS[:2], "close": [3.0, 3.0], "adj_close": [0.0003, 0.0004]})
    assert stated(tiny, {}, {}, resolution=1e-4) == {}


def test_bars_without_a_close_are_passed_over() -> None:
    broken = bars().with_columns(close=pl.when(pl.col("session") != date(2024, 5, 2)).then("close"))
    found = with_actions(broken, events("split", {date(2024, 5, 6): 4.0}), events("dividend", {}), 1e-7)
    assert found.filter(pl.col("split") == 4)["ratio"].to_list() == [0.25]


def test_volumes_in_shares_of_today_become_those_that_were_traded() -> None:
    frame = bars().with_columns(volume=pl.Series([4000.0, 8000.0, 1200.0, 700.0, 600.0, 500.0]))
    splits = events("split", {date(2024, 5, 6): 4.0, date(2024, 5, 20): 2.0})
    # today's shares are 2 of those of the 6th on, and 8 of those before
    twice = pl.concat([splits, splits])
    assert without_later_splits(frame, twice)["volume"].to_list() == [500.0, 1000.0, 150.0, 350.0, 300.0, 250.0]
    assert without_later_splits(frame, events("split", {})).equals(frame)


def actions(*rows: tuple[str, date, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ACTION_SCHEMA, orient="row")


def test_a_dividend_scales_prices_and_no_volume() -> None:
    panel = bars().drop("adj_close").with_columns(volume=pl.lit(1000.0))
    found = apply_adjustments(
        panel,
        applied_ratios(
            NOTHING,
            actions(("X", date(2024, 5, 3), 1.0, 2.0, DIVIDEND), ("X", date(2024, 5, 6), 4.0, 0.0, SPLIT)),
        ),
    )
    assert found["close"].to_list() == pytest.approx([c * f for c, f in zip(CLOSES, FACTORS, strict=True)])
    assert found["volume"].to_list() == [4000.0, 4000.0, 4000.0, 1000.0, 1000.0, 1000.0]


def test_an_entry_replaces_the_vendors_action_unless_it_accepts_a_move() -> None:
    stated_both = actions(("X", DAYS[2], 1.0, 2.0, 0.99), ("Y", DAYS[2], 1.0, 2.0, 0.98))
    entered = pl.DataFrame(
        [("X", DAYS[2], 0.5), ("Y", DAYS[2], 1.0), ("Z", DAYS[3], 1.0)], schema=ADJUSTMENT_SCHEMA, orient="row"
    )
    found = applied_ratios(entered, stated_both)
    assert found.rows() == [("X", DAYS[2], 0.5, 0.5), ("Y", DAYS[2], 0.98, 1.0), ("Z", DAYS[3], 1.0, 1.0)]
    assert applied_ratios(entered, stated_both.clear()).equals(entered)


def test_adjustments_are_noted_and_read_back_as_they_are() -> None:
    applied = applied_ratios(
        pl.DataFrame([("X", DAYS[4], 0.5)], schema=ADJUSTMENT_SCHEMA, orient="row"),
        actions(("X", DAYS[2], 1.0, 2.0, 0.99), ("X", DAYS[3], 4.0, 0.0, 0.25)),
    )
    noted = noted_adjustments(applied)
    assert noted == [(DAYS[2], 0.99, 1.0), (DAYS[3], 0.25), (DAYS[4], 0.5)]
    assert ratios_of("X", noted).equals(applied)
    assert noted_adjustments(applied.drop("volume_ratio")) == [(DAYS[2], 0.99), (DAYS[3], 0.25), (DAYS[4], 0.5)]
