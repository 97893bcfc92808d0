from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boursomatic_assets.display.ui.canvas import CLASSIFIER_COLOUR, REGRESSOR_COLOUR
from boursomatic_assets.display.ui.fold_pictures import fold_figures_picture, folds_picture

LARGEST = 25_000


def folds(count: int, **figures: float | None) -> list[dict[str, Any]]:
    """Folds of a year each, from 2010 on, all trained from 2005 on up to a month before."""
    return [
        {
            "fold": number,
            "train_first": "2005-01-03",
            "train_last": f"{2009 + number - 1}-12-01",
            "test_first": f"{2009 + number}-01-04",
            "test_last": f"{2009 + number}-12-30",
            "rank_ic": 0.02 * (-1) ** number,
            "matched_lift_buy": 1.0 + 0.05 * (-1) ** number,
            **figures,
        }
        for number in range(1, count + 1)
    ]


def coloured(png: bytes, colour: str) -> np.ndarray:
    """Which pixels have about this colour; the palette is small."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.asarray(np.abs(picture - wanted).max(axis=2) < 12)


def widest(png: bytes, colour: str) -> int:
    """Pixels of the widest line in this colour: the bar, not the legend."""
    return int(coloured(png, colour).sum(axis=1).max())


@pytest.mark.parametrize("count", [1, 8, 99])
@pytest.mark.parametrize("draw", [folds_picture, fold_figures_picture])
def test_a_picture_is_700_pixels_wide_and_grows_with_the_folds(draw: Any, count: int) -> None:  # noqa: ANN401
    png = draw(folds(count))
    assert Image.open(io.BytesIO(png)).size == (700, 90 + 26 * count)
    assert count > 8 or len(png) < LARGEST


def test_training_and_prediction_take_as_much_room_as_they_last() -> None:
    png = folds_picture(folds(1))
    # Trained on 2005-01-03 to 2009-12-01, 1,794 days; predicted 2010-01-04 to 2010-12-30, 361 days: 4.97 times.
    assert widest(png, CLASSIFIER_COLOUR) / widest(png, REGRESSOR_COLOUR) == pytest.approx(4.97, rel=0.05)


def test_a_figure_that_is_not_defined_has_no_bar() -> None:
    with_bars = fold_figures_picture(folds(3))
    without = fold_figures_picture(folds(3, rank_ic=None, matched_lift_buy=None))
    assert coloured(with_bars, CLASSIFIER_COLOUR).sum() > 1000
    assert not coloured(without, CLASSIFIER_COLOUR).any()
