"""Pictures: readable as PNG, of the promised size, drawn in more than the background's colour, always alike."""

from __future__ import annotations

import base64
import io
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from PIL import Image

from boursomatic_assets.core.portfolio.book import TrancheBook
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.data_pictures import (
    CLASS_COLOURS,
    PURGE_COLOUR,
    label_mix_picture,
    split_picture,
)
from boursomatic_assets.display.ui.lineage_picture import lineage_picture
from boursomatic_assets.display.ui.model_pictures import confusion_picture, equity_picture, importance_picture

if TYPE_CHECKING:
    from collections.abc import Callable

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALL, LARGE = 20_000, 60_000
CLASSES = ("BUY", "HOLD", "SELL")


def book_of(returns: np.ndarray) -> TrancheBook:
    sessions = tuple(date(2020, 1, 2) + timedelta(days=day) for day in range(len(returns)))
    return TrancheBook(sessions, returns, np.zeros(len(returns)), np.ones(len(returns)), 0)


BOOK = book_of(np.random.default_rng(7).normal(0.0005, 0.01, 250))
EMPTY_BOOK = book_of(np.empty(0))
MIXES = {
    "train_set": {"BUY": 1200, "HOLD": 1500, "SELL": 1300},
    "validation_set": {"BUY": 300, "HOLD": 200, "SELL": 100},
    "test_set": {"BUY": 200, "HOLD": 200, "SELL": 600},
}
MATRICES = {
    "validation": [[77, 119, 86], [100, 97, 86], [43, 67, 49]],
    "test": [[36, 113, 79], [0, 0, 0], [67, 164, 1113]],
}
IMPORTANCE = pl.DataFrame(
    {
        "feature": ["vol_20d", "atr_14", "volume_zscore"],
        "classifier_gain": [0.6, 0.3, 0.1],
        "regressor_gain": [0.2, 0.8, 0.0],
    }
)
SPANS = {
    "train_set": (date(2015, 1, 2), date(2018, 6, 1), 8000),
    "validation_set": (date(2018, 7, 2), date(2019, 3, 1), 1700),
    "test_set": (date(2019, 4, 1), date(2019, 12, 31), 1800),
}

PICTURES: dict[str, tuple[Callable[[], bytes], int, int]] = {
    "label mix": (lambda: label_mix_picture(MIXES), 700, SMALL),
    "label mix of an empty set": (
        lambda: label_mix_picture({**MIXES, "none": dict.fromkeys(CLASSES, 0)}),
        700,
        SMALL,
    ),
    "confusion": (lambda: confusion_picture(MATRICES, CLASSES), 700, SMALL),
    "confusion of no rows": (lambda: confusion_picture({"test": [[0, 0, 0]] * 3}, CLASSES), 700, SMALL),
    "equity": (lambda: equity_picture({"validation": BOOK, "test": BOOK}), 700, SMALL),
    "equity of one session": (lambda: equity_picture({"test": book_of(np.zeros(1))}), 700, SMALL),
    "equity beside an empty book": (lambda: equity_picture({"validation": EMPTY_BOOK, "test": BOOK}), 700, SMALL),
    "equity of empty books": (lambda: equity_picture({"validation": EMPTY_BOOK, "test": EMPTY_BOOK}), 700, SMALL),
    "importance": (lambda: importance_picture(IMPORTANCE), 700, SMALL),
    "split": (lambda: split_picture(SPANS), 700, SMALL),
    "lineage": (lineage_picture, 1100, LARGE),
    "lineage of one feature": (lambda: lineage_picture(["rsi_14"]), 1100, LARGE),
}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count_near(png: bytes, colour: str, most_apart: int = 12) -> int:
    """Pixels of about a colour; a small palette may move each channel a little."""
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return int((np.abs(pixels(png).astype(int) - wanted).max(axis=2) <= most_apart).sum())


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_png_of_its_width_that_shows_something_and_stays_small(name: str) -> None:
    draw, width, most_bytes = PICTURES[name]
    png = draw()
    assert png.startswith(PNG_SIGNATURE)
    assert len(png) <= most_bytes
    shown = pixels(png)
    assert shown.shape[1] == width
    assert shown.shape[0] >= 150
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 8


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_white_corners_and_nothing_cut_off_at_its_edge(name: str) -> None:
    shown = pixels(PICTURES[name][0]())
    edge = np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]])
    assert (edge == 255).all()


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    draw = PICTURES[name][0]
    assert draw() == draw()


def test_the_label_mix_shows_each_class_in_proportion() -> None:
    png = label_mix_picture({"set": {"BUY": 10, "HOLD": 30, "SELL": 60}})
    buy, hold, sell = (count_near(png, CLASS_COLOURS[name]) for name in CLASSES)
    # 10 : 30 : 60, but for the white text on the bars and the colours' keys
    assert 2.0 < hold / buy < 3.5
    assert 1.5 < sell / hold < 2.5


def test_a_share_too_small_for_its_figure_has_a_bar_all_the_same() -> None:
    assert count_near(label_mix_picture({"set": {"BUY": 3, "HOLD": 97, "SELL": 0}}), CLASS_COLOURS["BUY"]) > 100


def test_the_confusion_picture_grows_by_a_row_for_a_fourth_set() -> None:
    one_row = pixels(confusion_picture(dict.fromkeys("abc", MATRICES["test"]), CLASSES))
    two_rows = pixels(confusion_picture(dict.fromkeys("abcd", MATRICES["test"]), CLASSES))
    assert two_rows.shape[0] == 2 * one_row.shape[0]


def test_an_empty_book_is_told_apart_from_a_flat_one() -> None:
    assert equity_picture({"test": EMPTY_BOOK}) != equity_picture({"test": book_of(np.zeros(5))})


def test_a_deeper_fall_shows_more_drawdown_on_the_common_scale() -> None:
    falling, steady = book_of(np.full(50, -0.01)), book_of(np.full(50, 0.01))
    shown = pixels(equity_picture({"left": falling, "right": steady})).astype(int)
    reddish = shown[:, :, 0] - shown[:, :, 2] > 40
    assert reddish[:, :350].sum() > 1000
    assert reddish[:, 350:].sum() < 50


def test_a_purged_gap_is_shaded_and_sets_that_overlap_have_none() -> None:
    assert count_near(split_picture(SPANS), PURGE_COLOUR) > 500
    overlapping = {"train_set": SPANS["train_set"], "test_set": (date(2018, 1, 2), date(2019, 12, 31), 10)}
    assert count_near(split_picture(overlapping), PURGE_COLOUR) == 0


def test_a_set_of_one_session_is_drawn() -> None:
    spans = {"train_set": SPANS["train_set"], "test_set": (date(2018, 7, 2), date(2018, 7, 2), 1)}
    assert split_picture(spans) != split_picture({"train_set": SPANS["train_set"]})


def test_the_lineage_picture_grows_with_its_features() -> None:
    assert pixels(lineage_picture()).shape[0] > pixels(lineage_picture(["rsi_14", "ret_1d"])).shape[0]


def test_drawing_leaves_no_global_figure_behind() -> None:
    from matplotlib import _pylab_helpers

    label_mix_picture(MIXES)
    assert not _pylab_helpers.Gcf.get_all_fig_managers()


def test_an_embedded_picture_carries_its_bytes() -> None:
    markdown = embedded(b"\x89PNG", "Label mix")
    before, _, encoded = markdown.partition(";base64,")
    assert before == "![Label mix](data:image/png"
    assert base64.b64decode(encoded.removesuffix(")")) == b"\x89PNG"


def test_the_words_of_an_embedded_picture_cannot_end_it_early() -> None:
    assert embedded(b"", "a [set]\n of rows") == "![a (set) of rows](data:image/png;base64,)"
