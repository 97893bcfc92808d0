from __future__ import annotations

from dataclasses import replace
from functools import partial
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
from boursomatic_assets_tests.support.labelled import constant_labels, session_numbers
from boursomatic_assets_tests.support.strategies import (
    bar_panels,
    flat_bars,
    random_walk_bars,
    weekdays,
    with_other_future,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

SHORT = Experiment(horizon=2, features=("ret_1d",))
labels_over = partial(constant_labels, experiment=SHORT)


@pytest.mark.parametrize(
    ("change", "train", "validation", "test"),
    [
        # 40 labelled sessions: validation begins at 28 = 0.70 x 40, test at 34 = 0.85 x 40.
        # A label ends 2 sessions on: train keeps up to 25 (25 + 2 < 28), validation up to 31 (31 + 2 < 34).
        ({}, range(26), range(28, 32), range(34, 40)),
        # two sessions more are left out: labels end before 26 and before 32
        ({"embargo": 2}, range(24), range(28, 30), range(34, 40)),
        # 0.50 x 40 = 20 and 0.75 x 40 = 30
        ({"train_fraction": 0.5, "validation_fraction": 0.25}, range(18), range(20, 28), range(30, 40)),
    ],
    ids=["70 15 15", "embargo", "other fractions"],
)
def test_split_panel_by_hand(change: dict[str, float], train: range, validation: range, test: range) -> None:
    labels = labels_over("AAA")
    split = split_panel(labels, SHORT.model_copy(update=change))
    assert [session_numbers(panel) for panel in split.sets().values()] == [
        list(train),
        list(validation),
        list(test),
    ]
    # of 42 sessions two have no label and are in no set
    assert labels.height == 42
    assert split.purged == 40 - len(train) - len(validation) - len(test)
    assert list(split.sets().items()) == [
        ("train_set", split.train), ("validation_set", split.validation), ("test_set", split.test),
    ]  # fmt: skip


def test_split_panel_counts_sessions_and_not_rows() -> None:
    # BBB has bars in the last 10 weekdays only: rows are many late, the sessions are the same 40
    bars = flat_bars({"AAA": [100.0] * 42, "BBB": [None] * 32 + [100.0] * 10})
    labels = label_panel(bars.select("symbol", "session", ret_1d=pl.lit(0.0)), bars, SHORT)
    split = split_panel(labels, SHORT)
    assert split.validation["session"].min() == weekdays(29)[28]
    assert split.test["session"].min() == weekdays(35)[34]


def test_split_panel_keeps_a_session_in_one_set() -> None:
    split = split_panel(labels_over("AAA", "BBB", "CCC"), SHORT)
    assert [panel.height for panel in split.sets().values()] == [3 * 26, 3 * 4, 3 * 6]


def test_split_panel_leaves_out_rows_without_history() -> None:
    bars = random_walk_bars(symbols=1, sessions=100, seed=0)
    experiment = Experiment(horizon=2)
    split = split_panel(label_panel(compute_features(bars), bars, experiment), experiment)
    # 20 sessions warm up, 2 have no label: 78 are left, the first of them the 21st
    assert split.train["session"].min() == weekdays(21)[20]
    assert sum(panel.height for panel in split.sets().values()) + split.purged == 78


@pytest.mark.parametrize(("sessions", "labelled"), [(3, 1), (4, 2), (5, 3)])
def test_split_panel_refuses_too_few_sessions(sessions: int, labelled: int) -> None:
    # of 3 labelled sessions round(2.1) = 2 train, and round(2.55) = 3 leave none to test on
    with pytest.raises(NotEnoughHistoryError) as caught:
        split_panel(labels_over("AAA", sessions=sessions), SHORT)
    assert f"a set would have no session: {labelled} labelled sessions (2018-01-01.." in str(caught.value)
    assert "--lookback-days" in str(caught.value)


def test_split_panel_refuses_a_set_emptied_by_purge_or_embargo() -> None:
    # 10 labelled sessions: validation is session 7 alone, its label ends at 9, test begins at 8
    with pytest.raises(NotEnoughHistoryError, match=r"purging leaves a set empty: 10 labelled sessions"):
        split_panel(labels_over("AAA", sessions=12), SHORT)
    with pytest.raises(NotEnoughHistoryError, match="an embargo of 1000"):
        split_panel(labels_over("AAA"), SHORT.model_copy(update={"embargo": 1000}))


def test_split_panel_needs_a_label_panel() -> None:
    with pytest.raises(PanelContractError, match="sorted"):
        split_panel(labels_over("AAA").reverse(), SHORT)
    with pytest.raises(PanelContractError, match=r"missing \['label'\]"):
        split_panel(labels_over("AAA").drop("label"), SHORT)


@pytest.mark.parametrize(("earlier", "later", "at"), [("train", "validation", 28), ("validation", "test", 34)])
def test_overlaps_report_a_missing_purge(earlier: str, later: str, at: int) -> None:
    labels, calendar = labels_over("AAA"), weekdays(42)
    sound = split_panel(labels, SHORT)
    # the two sessions before the boundary are back, whose labels end in the later set
    back = labels.filter(pl.col("session").is_in(calendar[at - 2 : at]))
    broken = replace(sound, **{earlier: pl.concat([getattr(sound, earlier), back])})
    assert overlaps(sound) == []
    (found,) = overlaps(broken)
    assert found == (
        f"2 rows of {earlier}_set have labels that end in {later}_set, which starts {calendar[at]}: "
        f"first 'AAA' {calendar[at - 2]}, label_end {calendar[at]}"
    )


def test_overlaps_report_a_session_in_two_sets() -> None:
    labels, calendar = labels_over("AAA", "BBB"), weekdays(42)
    sound = split_panel(labels, SHORT)
    one_row = labels.filter((pl.col("session") == calendar[28]) & (pl.col("symbol") == "BBB"))
    found = overlaps(replace(sound, train=pl.concat([sound.train, one_row])))
    assert f"1 rows of train_set are at or after {calendar[28]}, in validation_set" in found
    assert any(text.startswith("1 rows of train_set have labels that end in validation_set") for text in found)
    found = overlaps(replace(sound, validation=pl.concat([sound.validation, sound.test.head(1)])))
    assert f"1 rows of validation_set are at or after {calendar[34]}, in test_set" in found


def test_overlaps_report_training_rows_beyond_an_empty_validation_set() -> None:
    sound = split_panel(labels_over("AAA"), SHORT)
    everything = pl.concat([sound.train, sound.validation, sound.test])
    found = overlaps(replace(sound, train=everything, validation=sound.validation.head(0)))
    assert any("train_set" in text and "test_set" in text for text in found)


def test_overlaps_report_shuffled_sets() -> None:
    rows = labelled_rows(labels_over("AAA")).sample(fraction=1.0, shuffle=True, seed=0)
    broken = Split(train=rows[:28], validation=rows[28:34], test=rows[34:], purged=0)
    # both kinds of fault at both boundaries
    assert len(overlaps(broken)) >= 4


Case = tuple[pl.DataFrame, pl.DataFrame, Experiment, Split]


@st.composite
def splits(draw: DrawFn) -> Case:
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
def test_split_panel_ends_labels_before_the_next_set_and_its_embargo(made: Case) -> None:
    _, labels, experiment, split = made
    used = labelled_rows(labels).filter(is_warmed_up(experiment.features))
    calendar = sorted(set(used["session"]))
    for earlier, later in pairwise(split.sets().values()):
        assert earlier["session"].max() < later["session"].min()
        begins = calendar.index(later["session"].min())
        # the embargo's sessions lie between the last label's end and the next set
        known_by = calendar[begins - experiment.embargo]
        assert earlier["label_end"].max() < known_by <= later["session"].min()
    assert overlaps(split) == []


@given(splits())
def test_split_panel_gaps_are_at_least_the_horizon(made: Case) -> None:
    bars, _, experiment, split = made
    for symbol in set(bars["symbol"]):
        own = bars.filter(pl.col("symbol") == symbol)["session"].to_list()
        used = [panel.filter(pl.col("symbol") == symbol)["session"] for panel in split.sets().values()]
        for earlier, later in pairwise(used):
            if len(earlier) and len(later):
                between = own.index(later.min()) - own.index(earlier.max()) - 1
                assert between >= experiment.horizon


@given(splits())
def test_split_panel_puts_each_labelled_row_in_one_set_or_purges_it(made: Case) -> None:
    _, labels, experiment, split = made
    used = labelled_rows(labels).filter(is_warmed_up(experiment.features))
    together = pl.concat(split.sets().values()).sort("symbol", "session")
    assert together.unique(["symbol", "session"]).height == together.height
    assert together.height + split.purged == used.height
    assert together.join(used, on=["symbol", "session"], how="semi").height == together.height
    # each purged row reaches into the next set or its embargo
    left_out = used.join(together, on=["symbol", "session"], how="anti")
    calendar = sorted(set(used["session"]))
    for earlier, later in ((split.train, split.validation), (split.validation, split.test)):
        begins = calendar.index(later["session"].min())
        known_by = calendar[max(begins - experiment.embargo, 0)]
        of_the_earlier = pl.col("session").is_between(earlier["session"].min(), calendar[begins - 1])
        assert (left_out.filter(of_the_earlier)["label_end"] >= known_by).all()


@given(splits(), st.integers(0, 2**32 - 1))
def test_split_panel_training_rows_never_change_with_the_future(made: Case, seed: int) -> None:
    bars, _, experiment, split = made
    present = split.train["label_end"].max()
    other = with_other_future(bars, present, seed)  # type: ignore[arg-type]
    labels = label_panel(compute_features(other), other, experiment)
    again = labels.join(split.train, on=["symbol", "session"], how="semi")
    assert again.equals(split.train)
