"""Pictures of the UI: small PNG files of the promised size, not blank, with nothing cut off, always alike."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.drift.watch import DRIFT_SCHEMA
from boursomatic_assets.core.portfolio.book import TrancheBook
from boursomatic_assets.display.ui.canvas import CLASSIFIER_COLOUR, REGRESSOR_COLOUR
from boursomatic_assets.display.ui.data_pictures import (
    CLASS_COLOURS,
    PURGE_COLOUR,
    label_mix_picture,
    split_picture,
)
from boursomatic_assets.display.ui.drift import ALARM_COLOUR, drift_picture
from boursomatic_assets.display.ui.lineage_picture import lineage_picture
from boursomatic_assets.display.ui.metadata import picture
from boursomatic_assets.display.ui.model_pictures import confusion_picture, equity_picture, importance_picture
from boursomatic_assets.display.ui.walk_forward import fold_figures_picture, folds_picture
from boursomatic_assets_tests.support.pictures import check_picture, coloured, pixels

if TYPE_CHECKING:
    from collections.abc import Callable

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


def scan_of(p_values: list[float | None], alarmed: list[bool]) -> pl.DataFrame:
    days = [date(2020, 1, 2) + timedelta(days=number) for number in range(len(p_values))]
    return pl.DataFrame({"session": days, "p_value": pl.Series(p_values, dtype=pl.Float64), "alarmed": alarmed})


def newest_of(ratios: list[float | None], *, alarmed: bool = False) -> pl.DataFrame:
    """A row for each ratio of value to level, None for one without a level; the first may be an alarm."""
    rows = [
        ("volume_zscore", "rank_correlation", ratio or 1.0, ratio and 1.0, ratio and 0.01, alarmed and not place)
        for place, ratio in enumerate(ratios)
    ]
    return pl.DataFrame([(*row, 0.1, None) for row in rows], schema=DRIFT_SCHEMA, orient="row")


QUIET_SCAN = scan_of(np.random.default_rng(3).uniform(0.001, 0.3, 400).tolist(), [False] * 400)
SMALL, MEDIUM, LARGE = 20_000, 35_000, 60_000
# How each is drawn, its width or its size, and the most bytes.
PICTURES: dict[str, tuple[Callable[[], bytes], tuple[int, int] | int, int]] = {
    "label mix": (lambda: label_mix_picture(MIXES), 700, SMALL),
    "label mix of an empty set": (
        lambda: label_mix_picture({**MIXES, "none": dict.fromkeys(CLASSES, 0)}), 700, SMALL,
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
    **{
        f"{draw.__name__} of {count}": (
            lambda draw=draw, count=count: draw(folds(count)),  # type: ignore[misc]
            (700, 90 + 26 * count),
            25_000 if count < 99 else 250_000,
        )
        for draw in (folds_picture, fold_figures_picture)
        for count in (1, 8, 99)
    },
    # At most twelve rows are drawn.
    **{
        f"drift of {rows}": (
            lambda rows=rows: drift_picture(QUIET_SCAN, newest_of([0.5] * rows)),  # type: ignore[misc]
            (700, 230 + 90 + 26 * min(rows, 12)),
            MEDIUM,
        )
        for rows in (1, 12, 50)
    },
    "drift without a level": (
        lambda: drift_picture(scan_of([None, None], [False, False]), newest_of([None])), (700, 230 + 90 + 26),
        MEDIUM,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_is_small_of_its_size_and_whole(name: str) -> None:
    check_picture(*PICTURES[name])


def test_drift_picture_shows_an_alarm_in_red_and_cuts_huge_values() -> None:
    png = drift_picture(scan_of([0.1, 1e-12], [False, True]), newest_of([400.0, 0.9], alarmed=True))
    assert coloured(png, ALARM_COLOUR).sum() > 1000
    assert not coloured(drift_picture(QUIET_SCAN, newest_of([0.5] * 12)), ALARM_COLOUR).any()


def test_folds_picture_draws_spans_in_proportion() -> None:
    png = folds_picture(folds(1))
    # Trained on 2005-01-03 to 2009-12-01, 1,794 days; predicted 2010-01-04 to 2010-12-30, 361 days: 4.97 times.
    trained, predicted = (
        coloured(png, colour).sum(axis=1).max() for colour in (CLASSIFIER_COLOUR, REGRESSOR_COLOUR)
    )
    assert trained / predicted == pytest.approx(4.97, rel=0.05)


def test_fold_figures_picture_has_no_bar_for_an_undefined_figure() -> None:
    with_bars = fold_figures_picture(folds(3))
    without = fold_figures_picture(folds(3, rank_ic=None, matched_lift_buy=None))
    assert coloured(with_bars, CLASSIFIER_COLOUR).sum() > 1000
    assert not coloured(without, CLASSIFIER_COLOUR).any()


def test_label_mix_picture_shows_each_class_in_proportion() -> None:
    png = label_mix_picture({"set": {"BUY": 10, "HOLD": 30, "SELL": 60}})
    buy, hold, sell = (coloured(png, CLASS_COLOURS[name]).sum() for name in CLASSES)
    # 10 : 30 : 60, but for the white text on the bars and the colours' keys
    assert 2.0 < hold / buy < 3.5
    assert 1.5 < sell / hold < 2.5


def test_label_mix_picture_draws_a_share_too_small_for_its_percentage() -> None:
    assert coloured(label_mix_picture({"set": {"BUY": 3, "HOLD": 97, "SELL": 0}}), CLASS_COLOURS["BUY"]).sum() > 100


def test_confusion_picture_grows_by_a_row_for_a_fourth_set() -> None:
    one_row = pixels(confusion_picture(dict.fromkeys("abc", MATRICES["test"]), CLASSES))
    two_rows = pixels(confusion_picture(dict.fromkeys("abcd", MATRICES["test"]), CLASSES))
    assert two_rows.shape[0] == 2 * one_row.shape[0]


def test_equity_picture_tells_an_empty_book_from_a_flat_one() -> None:
    assert equity_picture({"test": EMPTY_BOOK}) != equity_picture({"test": book_of(np.zeros(5))})


def test_equity_picture_draws_drawdowns_on_one_scale() -> None:
    falling, steady = book_of(np.full(50, -0.01)), book_of(np.full(50, 0.01))
    shown = pixels(equity_picture({"left": falling, "right": steady}))
    reddish = shown[:, :, 0] - shown[:, :, 2] > 40
    assert reddish[:, :350].sum() > 1000
    assert reddish[:, 350:].sum() < 50


def test_split_picture_shades_a_purged_gap_and_none_if_sets_overlap() -> None:
    assert coloured(split_picture(SPANS), PURGE_COLOUR).sum() > 500
    overlapping = {"train_set": SPANS["train_set"], "test_set": (date(2018, 1, 2), date(2019, 12, 31), 10)}
    assert coloured(split_picture(overlapping), PURGE_COLOUR).sum() == 0


def test_split_picture_draws_a_set_of_one_session() -> None:
    spans = {"train_set": SPANS["train_set"], "test_set": (date(2018, 7, 2), date(2018, 7, 2), 1)}
    assert split_picture(spans) != split_picture({"train_set": SPANS["train_set"]})


def test_lineage_picture_grows_with_its_features() -> None:
    assert pixels(lineage_picture()).shape[0] > pixels(lineage_picture(["rsi_14", "ret_1d"])).shape[0]


def test_pictures_leave_no_global_figure() -> None:
    from matplotlib import _pylab_helpers

    label_mix_picture(MIXES)
    assert not _pylab_helpers.Gcf.get_all_fig_managers()


def test_picture_carries_its_bytes_and_its_words_cannot_end_it_early() -> None:
    # base64 of 89 50 4e 47: 10001001 01010000 01001110 01000111 -> i V B O R w ==
    assert picture(b"\x89PNG", "Label mix").value == "![Label mix](data:image/png;base64,iVBORw==)"
    assert picture(b"", "a [set]\n of rows").value == "![a (set) of rows](data:image/png;base64,)"
