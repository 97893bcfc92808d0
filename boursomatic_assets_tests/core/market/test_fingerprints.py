from __future__ import annotations

import math
from datetime import date

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets_tests.support.strategies import weekdays

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
def test_fingerprint_changes_with_any_change_of_content(other: pl.DataFrame) -> None:
    assert fingerprint(other) != fingerprint(MIXED)


def test_fingerprint_does_not_depend_on_memory_layout() -> None:
    chunked = pl.concat([MIXED[i : i + 1] for i in range(3)], rechunk=False)
    assert chunked.n_chunks() == 3
    assert fingerprint(chunked) == fingerprint(MIXED)
    # the values under a null may differ in memory, the content does not
    hidden = MIXED.with_columns(close=pl.when(pl.int_range(pl.len()) != 1).then(pl.Series([1.0, 77.0, 3.0])))
    assert hidden.equals(MIXED)
    assert fingerprint(hidden) == fingerprint(MIXED)
    assert len(fingerprint(MIXED)) == 64
    assert int(fingerprint(MIXED), 16) > 0


TEXTS = st.lists(st.none() | st.text(), max_size=4)


@given(TEXTS, TEXTS)
@example(["a\x1fb", "c"], ["a", "b\x1fc"])
@example([""], [None])
def test_fingerprints_of_texts_are_equal_only_for_equal_texts(one: list[str], other: list[str]) -> None:
    frames = [pl.DataFrame({"name": texts}, schema={"name": pl.String}) for texts in (one, other)]
    assert (fingerprint(frames[0]) == fingerprint(frames[1])) == (one == other)


NUMBERS = st.lists(st.none() | st.floats(allow_nan=False).map(lambda x: x + 0.0), max_size=4)


@given(NUMBERS, NUMBERS)
@example([0.0], [None])
def test_fingerprints_of_numbers_are_equal_only_for_equal_numbers(one: list[float], other: list[float]) -> None:
    frames = [pl.DataFrame({"close": numbers}, schema={"close": pl.Float64}) for numbers in (one, other)]
    assert (fingerprint(frames[0]) == fingerprint(frames[1])) == (one == other)
