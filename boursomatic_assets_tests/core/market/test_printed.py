from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boursomatic_assets.core.market.printed import MOST_DIGITS, Compared, compared, printed, signed, told_apart

ANY = st.floats(allow_nan=True, allow_infinity=True)
NEAR = st.floats(-2, 2)
# Pairs that often round alike.
PAIRS = st.one_of(
    st.tuples(ANY, ANY), st.tuples(NEAR, st.floats(-0.02, 0.02)).map(lambda pair: (pair[0], pair[0] + pair[1]))
)


@pytest.mark.parametrize(
    ("value", "unsigned", "with_sign"),
    [
        (0.544, "0.54", "+0.54"),
        (-1.126, "-1.13", "-1.13"),
        (0.001, "0.00", "0.00"),
        (-0.004, "0.00", "0.00"),
        (-0.0, "0.00", "0.00"),
        (math.nan, "not available", "not available"),
        (math.inf, "inf", "+inf"),
        (-math.inf, "-inf", "-inf"),
    ],
)
def test_printed_and_signed_have_no_negative_zero(value: float, unsigned: str, with_sign: str) -> None:
    assert (printed(value, 2), signed(value, 2)) == (unsigned, with_sign)


def test_printed_percent_and_significant_digits() -> None:
    assert printed(0.1234, 1, percent=True) == "12.3 %"
    assert printed(-0.0001, 1, percent=True) == "0.0 %"
    assert printed(0.0123456, 3, "g") == "0.0123"


@pytest.mark.parametrize(
    ("value", "other", "words"),
    [(0.9, 0.8, "is above"), (0.7, 0.8, "is below"), (0.5449, 0.5351, "equals"), (-0.001, 0.001, "equals")],
)
def test_compared_reads_the_printed_digits(value: float, other: float, words: str) -> None:
    found = compared(value, other, 2)
    assert found is not None
    assert found.words == words


def test_told_apart_prints_enough_digits_to_show_the_order() -> None:
    # 0.00504 and 0.005 are 0.0050 both; the fifth decimal tells them apart.
    assert told_apart(0.00504, 0.005, 4) == Compared("0.00504", "0.00500", 1, 5)
    assert told_apart(0.5, 0.25, 4) == Compared("0.5000", "0.2500", 1, 4)
    assert told_apart(0.1231, 0.1234, 3, "g") == Compared("0.1231", "0.1234", -1, 4)
    # Equal to the last printed digit.
    assert told_apart(1.0, 1.0 + 2e-16, 3) == Compared(f"1.{'0' * 12}", f"1.{'0' * 12}", 0, MOST_DIGITS)
    assert told_apart(0.5, 0.5, 2) == Compared("0.50", "0.50", 0, 2)


@given(pair=PAIRS, digits=st.integers(1, 6), kind=st.sampled_from(["f", "g"]), percent=st.booleans())
@example(pair=(0.5449, 0.5351), digits=2, kind="f", percent=False)
@example(pair=(math.inf, 1.0), digits=2, kind="f", percent=False)
def test_compared_order_is_that_of_the_printed_digits(
    pair: tuple[float, float], digits: int, kind: str, *, percent: bool
) -> None:
    value, other = pair
    for compare in (compared, told_apart):
        found = compare(value, other, digits, kind, percent=percent)  # type: ignore[operator]
        if not (math.isfinite(value) and math.isfinite(other)):
            assert found is None
            continue
        first, second = (float(text.removesuffix(" %")) for text in (found.first, found.second))
        assert found.order == (first > second) - (first < second)
        # Rounding never turns an order round.
        assert found.order in {0, (value > other) - (value < other)}
