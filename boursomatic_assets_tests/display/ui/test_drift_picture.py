from __future__ import annotations

import io
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from boursomatic_assets.core.drift.watch import DRIFT_SCHEMA
from boursomatic_assets.display.ui.drift_picture import ALARM_COLOUR, drift_picture
from boursomatic_assets_tests.display.ui.test_fold_pictures import coloured

LARGEST = 35_000


def scan_of(chances: list[float | None], alarmed: list[bool]) -> pl.DataFrame:
    days = [date(2020, 1, 2) + timedelta(days=number) for number in range(len(chances))]
    return pl.DataFrame({"session": days, "p_value": pl.Series(chances, dtype=pl.Float64), "alarmed": alarmed})


def newest_of(ratios: list[float | None], *, alarmed: bool = False) -> pl.DataFrame:
    """A row for each ratio of value to level, None for one without a level; the first may be an alarm."""
    rows = [
        (
            "volume_zscore",
            "rank_correlation",
            ratio or 1.0,
            ratio and 1.0,
            ratio and 0.01,
            alarmed and not place,
            0.1,
        )
        for place, ratio in enumerate(ratios)
    ]
    return pl.DataFrame([(*row, None) for row in rows], schema=DRIFT_SCHEMA, orient="row")


CHANCES = np.random.default_rng(3).uniform(0.001, 0.3, 400).tolist()


@pytest.mark.parametrize(("rows", "drawn"), [(1, 1), (12, 12), (50, 12)])
def test_a_picture_is_700_pixels_wide_and_shows_twelve_rows(rows: int, drawn: int) -> None:
    png = drift_picture(scan_of(CHANCES, [False] * 400), newest_of([0.5] * rows))
    assert Image.open(io.BytesIO(png)).size == (700, 230 + 90 + 26 * drawn)
    assert len(png) < LARGEST
    assert not coloured(png, ALARM_COLOUR).any()


def test_an_alarm_is_red_and_a_huge_value_leaves_room_for_others() -> None:
    png = drift_picture(scan_of([0.1, 1e-12], [False, True]), newest_of([400.0, 0.9], alarmed=True))
    assert coloured(png, ALARM_COLOUR).sum() > 1000


def test_what_has_no_level_is_a_sentence() -> None:
    png = drift_picture(scan_of([None, None], [False, False]), newest_of([None]))
    assert Image.open(io.BytesIO(png)).size == (700, 230 + 90 + 26)
