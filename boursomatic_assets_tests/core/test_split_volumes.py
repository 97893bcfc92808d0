from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.corporate_actions import apply_adjustments
from boursomatic_assets.core.split_volumes import with_split_volumes
from boursomatic_assets.errors import PanelContractError

FIRST = date(2024, 1, 1)


def bars(
    closes: list[float | None], adjusted: list[float | None], volumes: list[float], symbol: str = "A"
) -> pl.DataFrame:
    days = [FIRST + timedelta(i) for i in range(len(closes))]
    return pl.DataFrame(
        {"symbol": symbol, "session": days, "close": closes, "volume": volumes, "adj_close": adjusted}
    )


@pytest.mark.parametrize(
    ("before", "after", "adjusted", "volume"),
    [
        # ten for one: the factor goes from 0.1 to 1, the close from 1000 to 102; 7 shares were 70
        (1000.0, 102.0, 100.0, 70.0),
        # three for two: the factor from 2/3 to 1
        (90.0, 61.0, 60.0, 10.5),
        # a reverse split of one for seven: the factor from 7 to 1
        (3.0, 20.5, 21.0, 1.0),
        # five for four, the adjusted close rounded to cents: 80.02 / 100 = 0.8002
        (100.0, 81.0, 80.02, 8.75),
        # a dividend of a twentieth, and a spin-off of no simple ratio: 100 / 71.3 = 1.4025
        (100.0, 95.0, 95.0, 7.0),
        (100.0, 71.3, 71.3, 7.0),
        # the factor steps by two and the close does not: the adjusted close doubles, which no split does
        (100.0, 100.0, 50.0, 7.0),
        # only the close falls
        (100.0, 50.0, 100.0, 7.0),
    ],
)
def test_volumes_before_a_split_are_scaled_by_its_ratio(
    before: float, after: float, adjusted: float, volume: float
) -> None:
    scaled = with_split_volumes(bars([before, after], [adjusted, after], [7.0, 8.0]))
    assert scaled["volume"].to_list() == pytest.approx([volume, 8.0])


def test_two_splits_multiply_and_each_symbol_has_its_own() -> None:
    # two for one before the second bar, three for one before the third: 6 shares for the first one
    split = bars([60.0, 30.0, 10.0], [10.0, 10.0, 10.0], [1.0, 1.0, 1.0])
    other = bars([60.0, 61.0, 62.0], [60.0, 61.0, 62.0], [1.0, 1.0, 1.0], "B")
    together = pl.concat([other, split]).sample(fraction=1.0, shuffle=True, seed=1)
    scaled = with_split_volumes(together)
    assert scaled.drop("volume").equals(together.drop("volume"))
    assert scaled.sort("symbol", "session")["volume"].to_list() == [6.0, 3.0, 1.0, 1.0, 1.0, 1.0]


def test_bars_that_say_nothing_are_passed_over() -> None:
    # the second bar has no adjusted close, the third no price above 0: the step is from the first to the fourth
    panel = bars([20.0, 10.0, -1.0, 10.0], [10.0, None, 10.0, 10.0], [1.0, 1.0, 1.0, 1.0])
    assert with_split_volumes(panel)["volume"].to_list() == [2.0, 2.0, 2.0, 1.0]
    assert with_split_volumes(panel.clear()).equals(panel.clear())


def test_a_missing_column_is_named() -> None:
    with pytest.raises(PanelContractError, match="adj_close"):
        with_split_volumes(bars([1.0], [1.0], [1.0]).drop("adj_close"))


@given(shares=st.integers(2, 100), move=st.floats(0.8, 1.25), reverse=st.booleans())
def test_an_entered_adjustment_and_a_files_factor_give_the_same_volumes(
    *, shares: int, move: float, reverse: bool
) -> None:
    ratio = float(shares) if reverse else 1 / shares
    panel = bars([100.0, 100.0 * ratio * move], [100.0 * ratio, 100.0 * ratio * move], [1200.0, 1.0])
    entered = pl.DataFrame({"symbol": ["A"], "session": [FIRST + timedelta(1)], "ratio": [ratio]})
    by_entry = apply_adjustments(panel.drop("adj_close"), entered)
    assert with_split_volumes(panel)["volume"].to_list() == pytest.approx(by_entry["volume"].to_list(), rel=1e-12)
