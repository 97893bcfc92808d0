from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import compute_features, is_warmed_up
from boursomatic_assets.core.dataset.labels import label_panel, labelled_rows
from boursomatic_assets.core.dataset.splits import Split, overlaps, split_panel
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError
from boursomatic_assets_tests.support.strategies import (
    bar_panels,
    flat_bars,
    random_walk_bars,
    weekdays,
    with_other_future,
)

if TYPE_CHECKING:
    from datetime import date

    from hypothesis.strategies import DrawFn

SHORT = Experiment(horizon=2, features=("ret_1d",))


def labels_over(*symbols: str, sessions: int = 42, experiment: Experiment = SHORT) -> pl.DataFrame:
    """Labels of constant prices; of 42 sessions, 40 have a label two sessions ahead."""
    bars = flat_bars({symbol: [100.0] * sessions for symbol in symbols})
    features = bars.select("symbol", "session", ret_1d=pl.lit(0.0))
    return label_panel(features, bars, experiment)


def positions(panel: pl.DataFrame) -> list[int]:
    """Where the sessions of a panel are among the weekdays."""
    calendar = weekdays(200)
    return [calendar.index(session) for session in panel["session"]]


def test_the_sets_are_70_15_15_of_the_sessions_and_purged_at_both_boundaries() -> None:
    split = split_panel(labels_over("AAA"), SHORT)
    # 40 labelled sessions: validation begins at 28 = 0.70 x 40, test at 34 = 0.85 x 40.
    # A label ends 2 sessions on: train keeps up to 25 (25 + 2 < 28), validation up to 31 (31 + 2 < 34).
    assert positions(split.train) == list(range(26))
    assert positions(split.validation) == list(range(28, 32))
    assert positions(split.test) == list(range(34, 40))
    # 26, 27, 32 and 33 are left out
    assert split.purged == 4


def test_an_embargo_leaves_out_more_sessions_before_each_later_set() -> None:
    experiment = SHORT.model_copy(update={"embargo": 2})
    split = split_panel(labels_over("AAA"), experiment)
    # two sessions more are left out than without: labels end before 26 and before 32
    assert positions(split.train) == list(range(24))
    assert positions(split.validation) == [28, 29]
    assert positions(split.test) == list(range(34, 40))
    assert split.purged == 8


def test_fractions_of_the_sessions_not_of_the_rows_place_the_boundaries() -> None:
    # BBB has bars in the last 10 weekdays only: rows are many late, the sessions are the same 40
    bars = flat_bars({"AAA": [100.0] * 42, "BBB": [None] * 32 + [100.0] * 10})
    labels = label_panel(bars.select("symbol", "session", ret_1d=pl.lit(0.0)), bars, SHORT)
    split = split_panel(labels, SHORT)
    assert split.validation["session"].min() == weekdays(29)[28]
    assert split.test["session"].min() == weekdays(35)[34]


def test_all_instruments_of_a_session_fall_in_one_set() -> None:
    split = split_panel(labels_over("AAA", "BBB", "CCC"), SHORT)
    assert [panel.height for panel in split.sets().values()] == [3 * 26, 3 * 4, 3 * 6]


def test_other_fractions_place_other_boundaries() -> None:
    experiment = Experiment(horizon=2, features=("ret_1d",), train_fraction=0.5, validation_fraction=0.25)
    split = split_panel(labels_over("AAA"), experiment)
    # 0.50 x 40 = 20 and 0.75 x 40 = 30
    assert positions(split.train) == list(range(18))
    assert positions(split.validation) == list(range(20, 28))
    assert positions(split.test) == list(range(30, 40))


def test_unlabelled_rows_are_in_no_set() -> None:
    labels = labels_over("AAA")
    split = split_panel(labels, SHORT)
    assert labels.height == 42
    assert sum(panel.height for panel in split.sets().values()) + split.purged == 40


def test_rows_without_their_history_are_in_no_set() -> None:
    bars = random_walk_bars(symbols=1, sessions=100, seed=0)
    experiment = Experiment(horizon=2)
    split = split_panel(label_panel(compute_features(bars), bars, experiment), experiment)
    # 20 sessions warm up, 2 have no label: 78 are left, the first of them the 21st
    assert split.train["session"].min() == weekdays(21)[20]
    assert sum(panel.height for panel in split.sets().values()) + split.purged == 78


def test_the_sets_have_names_in_time_order() -> None:
    split = split_panel(labels_over("AAA"), SHORT)
    assert list(split.sets().items()) == [
        ("train_set", split.train),
        ("validation_set", split.validation),
        ("test_set", split.test),
    ]


@pytest.mark.parametrize(("sessions", "labelled"), [(3, 1), (4, 2), (5, 3)])
def test_too_few_sessions_for_three_sets_are_refused(sessions: int, labelled: int) -> None:
    # of 3 labelled sessions round(2.1) = 2 train, and round(2.55) = 3 leave none to test on
    with pytest.raises(NotEnoughHistoryError) as caught:
        split_panel(labels_over("AAA", sessions=sessions), SHORT)
    assert f"a set would have no session: {labelled} labelled sessions (2018-01-01.." in str(caught.value)
    assert "--lookback-days" in str(caught.value)


def test_a_set_that_purging_empties_is_refused() -> None:
    # 10 labelled sessions: validation is session 7 alone, its label ends at 9, test begins at 8
    with pytest.raises(NotEnoughHistoryError, match=r"purging leaves a set empty: 10 labelled sessions"):
        split_panel(labels_over("AAA", sessions=12), SHORT)


def test_an_embargo_longer_than_the_history_is_refused() -> None:
    experiment = SHORT.model_copy(update={"embargo": 1000})
    with pytest.raises(NotEnoughHistoryError, match="an embargo of 1000"):
        split_panel(labels_over("AAA"), experiment)


def test_labels_out_of_order_or_without_a_label_are_refused() -> None:
    with pytest.raises(PanelContractError, match="sorted"):
        split_panel(labels_over("AAA").reverse(), SHORT)
    with pytest.raises(PanelContractError, match=r"missing \['label'\]"):
        split_panel(labels_over("AAA").drop("label"), SHORT)


def unpurged(labels: pl.DataFrame, *boundaries: date) -> Split:
    """Three sets cut at two sessions, with every labelled row kept."""
    rows, (validation_at, test_at) = labelled_rows(labels), boundaries
    session = pl.col("session")
    return Split(
        train=rows.filter(session < validation_at),
        validation=rows.filter((session >= validation_at) & (session < test_at)),
        test=rows.filter(session >= test_at),
        purged=0,
    )


def test_a_sound_split_has_no_overlaps() -> None:
    assert overlaps(split_panel(labels_over("AAA", "BBB"), SHORT)) == []


def test_a_split_without_purge_at_the_first_boundary_is_reported() -> None:
    labels, calendar = labels_over("AAA"), weekdays(42)
    sound = split_panel(labels, SHORT)
    broken = replace(sound, train=unpurged(labels, calendar[28], calendar[34]).train)
    # sessions 26 and 27 are back, whose labels end in 28 and 29
    found = (
        f"2 rows of train_set have labels that end in validation_set, which starts {calendar[28]}: "
        f"first 'AAA' {calendar[26]}, label_end {calendar[28]}"
    )
    assert overlaps(broken) == [found]


def test_a_split_without_purge_at_the_second_boundary_is_reported() -> None:
    labels, calendar = labels_over("AAA"), weekdays(42)
    sound = split_panel(labels, SHORT)
    broken = replace(sound, validation=unpurged(labels, calendar[28], calendar[34]).validation)
    found = (
        f"2 rows of validation_set have labels that end in test_set, which starts {calendar[34]}: "
        f"first 'AAA' {calendar[32]}, label_end {calendar[34]}"
    )
    assert overlaps(broken) == [found]


def test_a_session_in_two_sets_is_reported() -> None:
    labels, calendar = labels_over("AAA", "BBB"), weekdays(42)
    sound = split_panel(labels, SHORT)
    one_row = labels.filter((pl.col("session") == calendar[28]) & (pl.col("symbol") == "BBB"))
    found = overlaps(replace(sound, train=pl.concat([sound.train, one_row])))
    assert f"1 rows of train_set are at or after {calendar[28]}, in validation_set" in found
    assert any(text.startswith("1 rows of train_set have labels that end in validation_set") for text in found)


def test_a_session_in_validation_and_test_is_reported() -> None:
    labels, calendar = labels_over("AAA"), weekdays(42)
    sound = split_panel(labels, SHORT)
    found = overlaps(replace(sound, validation=pl.concat([sound.validation, sound.test.head(1)])))
    assert f"1 rows of validation_set are at or after {calendar[34]}, in test_set" in found


def test_training_rows_that_reach_into_the_test_set_past_an_empty_validation_set_are_reported() -> None:
    sound = split_panel(labels_over("AAA"), SHORT)
    everything = pl.concat([sound.train, sound.validation, sound.test])
    found = overlaps(replace(sound, train=everything, validation=sound.validation.head(0)))
    assert any("train_set" in text and "test_set" in text for text in found)


def test_shuffled_rows_cut_in_three_are_reported() -> None:
    rows = labelled_rows(labels_over("AAA")).sample(fraction=1.0, shuffle=True, seed=0)
    broken = Split(train=rows[:28], validation=rows[28:34], test=rows[34:], purged=0)
    # both kinds of fault at both boundaries
    assert len(overlaps(broken)) >= 4


Made = tuple[pl.DataFrame, pl.DataFrame, Experiment, Split]


@st.composite
def splits(draw: DrawFn) -> Made:
    """Bars, labels and the split made of them, under different horizons, fractions and embargoes."""
    bars = draw(bar_panels(min_sessions=60, max_sessions=120))
    experiment = Experiment(
        horizon=draw(st.integers(1, 8), label="horizon"),
        embargo=draw(st.sampled_from([0, 0, 1, 3]), label="embargo"),
        train_fraction=draw(st.sampled_from([0.4, 0.5, 0.7]), label="train_fraction"),
        validation_fraction=draw(st.sampled_from([0.15, 0.25]), label="validation_fraction"),
        features=draw(st.sampled_from([("ret_1d",), ("ret_5d", "rsi_14")]), label="features"),
    )
    labels = label_panel(compute_features(bars), bars, experiment)
    try:
        return bars, labels, experiment, split_panel(labels, experiment)
    except NotEnoughHistoryError:
        return reject()


@given(splits())
def test_a_session_never_falls_in_two_sets(made: Made) -> None:
    sessions = [set(panel["session"]) for panel in made[3].sets().values()]
    for earlier, later in pairwise(sessions):
        assert max(earlier) < min(later)


@given(splits())
def test_every_label_of_an_earlier_set_ends_before_the_next_begins_and_before_the_embargo(made: Made) -> None:
    _, labels, experiment, split = made
    used = labelled_rows(labels).filter(is_warmed_up(experiment.features))
    calendar = sorted(set(used["session"]))
    for earlier, later in pairwise(split.sets().values()):
        begins = calendar.index(later["session"].min())
        # the embargo's sessions lie between the last label's end and the next set
        known_by = calendar[begins - experiment.embargo]
        assert earlier["label_end"].max() < known_by <= later["session"].min()
    assert overlaps(split) == []


@given(splits())
def test_every_gap_is_at_least_the_horizon_in_the_instruments_own_sessions(made: Made) -> None:
    bars, _, experiment, split = made
    for symbol in set(bars["symbol"]):
        own = bars.filter(pl.col("symbol") == symbol)["session"].to_list()
        used = [panel.filter(pl.col("symbol") == symbol)["session"] for panel in split.sets().values()]
        for earlier, later in pairwise(used):
            if len(earlier) and len(later):
                between = own.index(later.min()) - own.index(earlier.max()) - 1
                assert between >= experiment.horizon


@given(splits())
def test_each_labelled_row_is_in_one_set_or_purged(made: Made) -> None:
    _, labels, experiment, split = made
    used = labelled_rows(labels).filter(is_warmed_up(experiment.features))
    together = pl.concat(split.sets().values()).sort("symbol", "session")
    assert together.unique(["symbol", "session"]).height == together.height
    assert together.height + split.purged == used.height
    assert together.join(used, on=["symbol", "session"], how="semi").height == together.height
    # nothing is left out without need: what was purged reaches into the next set or its embargo
    left_out = used.join(together, on=["symbol", "session"], how="anti")
    calendar = sorted(set(used["session"]))
    for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
        begins = calendar.index(later["session"].min())
        known_by = calendar[max(begins - experiment.embargo, 0)]
        of_the_earlier = pl.col("session").is_between(earlier["session"].min(), calendar[begins - 1])
        assert (left_out.filter(of_the_earlier)["label_end"] >= known_by).all()


@given(splits(), st.integers(0, 2**32 - 1))
def test_the_training_rows_never_change_with_what_comes_after_their_labels(made: Made, seed: int) -> None:
    bars, _, experiment, split = made
    present = split.train["label_end"].max()
    other = with_other_future(bars, present, seed)  # type: ignore[arg-type]
    labels = label_panel(compute_features(other), other, experiment)
    again = labels.join(split.train, on=["symbol", "session"], how="semi")
    assert again.equals(split.train)
