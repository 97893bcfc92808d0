from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment, WalkForward
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import LABEL_TYPE, label_panel, realised_rows
from boursomatic_assets.core.models.folds import Fold, FoldFacts, fold_sets, folds_overlap, plan_folds
from boursomatic_assets.core.models.walk_forward import fold_table, join_folds, run_fold, sequential_calls
from boursomatic_assets.errors import DegenerateLabelsError, NotEnoughHistoryError, PanelContractError
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

DAYS = weekdays(400)
SHORT = Experiment(horizon=2, features=("ret_1d",), walk_forward=WalkForward(folds=3, history_fraction=0.4))
labels_over = partial(constant_labels, experiment=SHORT)
SMALL_TREES = BoosterParameters(n_estimators=3, max_depth=3, num_leaves=7)


def with_folds(experiment: Experiment, **plan: object) -> Experiment:
    changed = WalkForward.model_validate(experiment.walk_forward.model_dump() | plan)
    return experiment.model_copy(update={"walk_forward": changed})


def spans(folds: tuple[Fold, ...]) -> list[tuple[int, int, int]]:
    """Where each fold's training begins, and its first and last session lie, among the weekdays."""
    return [tuple(DAYS.index(day) for day in (fold.train_first, fold.test_first, fold.test_last)) for fold in folds]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        # 40 labelled sessions: 16 = 0.40 x 40 are history, 24 are left: 8 to each of 3 folds.
        ({}, [(0, 16, 23), (0, 24, 31), (0, 32, 39)]),
        # 24 sessions over 5 folds begin 0, 24/5, 48/5, 72/5 and 96/5 after the history, rounded down.
        ({"folds": 5}, [(0, 16, 19), (0, 20, 24), (0, 25, 29), (0, 30, 34), (0, 35, 39)]),
        # 16 sessions before each fold
        ({"window": "rolling"}, [(0, 16, 23), (8, 24, 31), (16, 32, 39)]),
        ({"folds": 1, "history_fraction": 0.75}, [(0, 30, 39)]),
    ],
)
def test_plan_folds_by_hand(plan: dict[str, object], expected: list[tuple[int, int, int]]) -> None:
    folds = plan_folds(labels_over("AAA"), with_folds(SHORT, **plan))
    assert [fold.number for fold in folds] == list(range(1, len(expected) + 1))
    assert spans(folds) == expected


def test_plan_folds_counts_sessions_and_not_rows() -> None:
    # BBB has bars in the last 10 weekdays only: rows are many late, the sessions are the same 40.
    bars = flat_bars({"AAA": [100.0] * 42, "BBB": [None] * 32 + [100.0] * 10})
    labels = label_panel(bars.select("symbol", "session", ret_1d=pl.lit(0.0)), bars, SHORT)
    assert spans(plan_folds(labels, SHORT)) == [(0, 16, 23), (0, 24, 31), (0, 32, 39)]


def test_plan_folds_ignores_rows_without_history() -> None:
    # ret_5d is null in the first 5 sessions: of the 35 left 14 = 0.4 x 35 are history; then 7 a fold.
    experiment = SHORT.model_copy(update={"features": ("ret_5d",)})
    bars = flat_bars({"AAA": [100.0] * 42})
    labels = label_panel(compute_features(bars), bars, experiment)
    assert spans(plan_folds(labels, experiment)) == [(5, 19, 25), (5, 26, 32), (5, 33, 39)]


@pytest.mark.parametrize(
    ("sessions", "plan", "found"),
    [
        # 4 labelled sessions: 2 = round(0.4 x 4) of history leave 2 for 3 folds.
        (6, {}, "2 sessions of history leave 2 to predict"),
        # round(0.1 x 4) = 0
        (6, {"history_fraction": 0.1}, "0 sessions of history leave 4 to predict"),
    ],
)
def test_plan_folds_refuses_too_few_sessions(sessions: int, plan: dict[str, object], found: str) -> None:
    with pytest.raises(NotEnoughHistoryError, match=found) as caught:
        plan_folds(labels_over("AAA", sessions=sessions), with_folds(SHORT, **plan))
    assert "--folds" in str(caught.value)
    assert "--lookback-days" in str(caught.value)


def test_fold_sets_by_hand() -> None:
    labels = labels_over("AAA")
    trained = [fold_sets(labels, fold, SHORT) for fold in plan_folds(labels, SHORT)]
    # A label ends 2 sessions on: of the 16 sessions before the first fold those up to 13 (13 + 2 < 16) are known.
    assert [session_numbers(train) for train, _ in trained] == [list(range(14)), list(range(22)), list(range(30))]
    assert [session_numbers(test) for _, test in trained] == [[*range(start, start + 8)] for start in (16, 24, 32)]
    # an embargo of 3: labels end before 13, 21 and 29
    experiment = SHORT.model_copy(update={"embargo": 3})
    trained = [fold_sets(labels, fold, experiment) for fold in plan_folds(labels, experiment)]
    assert [session_numbers(train)[-1] for train, _ in trained] == [10, 18, 26]


def test_fold_sets_of_a_rolling_window() -> None:
    experiment = with_folds(SHORT, window="rolling")
    labels = labels_over("AAA", "BBB")
    train, test = fold_sets(labels, plan_folds(labels, experiment)[2], experiment)
    assert session_numbers(train) == [*range(16, 30)] * 2
    assert session_numbers(test) == [*range(32, 40)] * 2


@pytest.mark.parametrize(("embargo", "fold"), [(14, 1), (100, 1), (100, 3)])
def test_fold_sets_refuse_a_fold_without_rows(embargo: int, fold: int) -> None:
    experiment = SHORT.model_copy(update={"embargo": embargo})
    labels = labels_over("AAA")
    with pytest.raises(NotEnoughHistoryError, match=f"fold {fold} .* has 0 rows to train on and 8 to predict"):
        fold_sets(labels, plan_folds(labels, experiment)[fold - 1], experiment)
    later = Fold(4, DAYS[0], DAYS[300], DAYS[310])
    with pytest.raises(NotEnoughHistoryError, match=r"fold 4 .* has 40 rows to train on and 0 to predict"):
        fold_sets(labels, later, SHORT)


@st.composite
def plans(draw: DrawFn) -> tuple[pl.DataFrame, Experiment]:
    plan = WalkForward(
        folds=draw(st.integers(1, 6)),
        window=draw(st.sampled_from(["expanding", "rolling"])),
        history_fraction=draw(st.floats(0.2, 0.8)),
    )
    experiment = Experiment(
        features=("ret_1d", "ret_5d"),
        horizon=draw(st.integers(1, 8)),
        embargo=draw(st.integers(0, 5)),
        walk_forward=plan,
    )
    bars = draw(bar_panels(min_sessions=30))
    return label_panel(compute_features(bars), bars, experiment), experiment


@given(plans())
def test_fold_sets_are_purged_and_predict_every_session_once(plan: tuple[pl.DataFrame, Experiment]) -> None:
    labels, experiment = plan
    try:
        folds = plan_folds(labels, experiment)
        sets = [fold_sets(labels, fold, experiment) for fold in folds]
    except NotEnoughHistoryError:
        reject()
    usable = labels.drop_nulls(["label", "ret_5d"])
    sessions = usable["session"].unique().sort()
    for fold, (train, test) in zip(folds, sets, strict=True):
        assert train["label_end"].max() < fold.test_first
        assert train["session"].min() >= fold.train_first
        # between the last label and the fold lie at least the sessions of the embargo
        between = sessions.filter((sessions >= train["label_end"].max()) & (sessions < fold.test_first))
        assert between.len() >= experiment.embargo
        assert (test["session"].min(), test["session"].max()) == (fold.test_first, fold.test_last)
    predicted = pl.concat([test for _, test in sets])
    # with those whose instrument ended within the horizon: no feature is missing, and the horizon has passed
    judged = realised_rows(labels.drop_nulls("ret_5d"), experiment)
    expected = judged.filter(pl.col("session") >= folds[0].test_first)
    known = expected.filter(~pl.col("ended_early")).select("symbol", "session")
    assert known.equals(usable.filter(pl.col("session") >= folds[0].test_first).select("symbol", "session"))
    assert_frame_equal(predicted.sort("symbol", "session"), expected)
    lengths = [test["session"].n_unique() for _, test in sets]
    assert max(lengths) - min(lengths) <= 1


WALKS = random_walk_bars(symbols=6, sessions=160, seed=7)
TRAINED = Experiment(
    features=("ret_1d", "ret_5d", "vol_20d"),
    horizon=5,
    buy_threshold=0.02,
    classifier=SMALL_TREES,
    regressor=SMALL_TREES,
    bootstrap_draws=100,
    walk_forward=WalkForward(folds=3, history_fraction=0.5),
)


def labels_of(bars: pl.DataFrame, experiment: Experiment = TRAINED) -> pl.DataFrame:
    return label_panel(compute_features(bars), bars, experiment)


@pytest.fixture(scope="module")
def walk_labels() -> pl.DataFrame:
    return labels_of(WALKS)


@pytest.fixture(scope="module")
def folds(walk_labels: pl.DataFrame) -> tuple[Fold, ...]:
    return plan_folds(walk_labels, TRAINED)


@pytest.fixture(scope="module")
def record(walk_labels: pl.DataFrame, folds: tuple[Fold, ...]) -> pl.DataFrame:
    """Predictions of all folds."""
    return join_folds({fold.number: run_fold(walk_labels, fold, TRAINED, 1).panel for fold in folds})


def test_run_fold_has_predictions_and_baselines(walk_labels: pl.DataFrame, folds: tuple[Fold, ...]) -> None:
    result = run_fold(walk_labels, folds[1], TRAINED, 1)
    assert result.panel.columns[:6] == ["symbol", "session", "fold", "label", "forward_return", "label_end"]
    train, test = fold_sets(walk_labels, folds[1], TRAINED)
    assert result.panel["fold"].to_list() == [2] * test.height
    assert_frame_equal(
        result.panel.select("symbol", "session", "label", "forward_return", "label_end", "vol_20d"),
        test.select("symbol", "session", "label", "forward_return", "label_end", "vol_20d"),
    )
    for kind in ("probability", "volatility_probability", "prior_probability"):
        total = result.panel.select(pl.sum_horizontal(f"{kind}_{name}" for name in ("buy", "hold", "sell")))
        np.testing.assert_allclose(total.to_series().to_numpy(), 1.0, atol=1e-12)
    assert result.panel["momentum_12_1"].null_count() == test.height  # 160 sessions are no year
    facts = result.facts
    assert (facts.fold, facts.train_rows, facts.rows) == (2, train.height, test.height)
    assert (facts.train_first, facts.train_last) == (train["session"].min(), train["session"].max())
    assert facts.train_last_label_end == train["label_end"].max()
    assert (facts.test_first, facts.test_last) == (folds[1].test_first, folds[1].test_last)


def test_run_fold_without_the_volatility_feature() -> None:
    experiment = TRAINED.model_copy(update={"features": ("ret_1d", "ret_5d")})
    labels = labels_of(WALKS, experiment)
    panel = run_fold(labels, plan_folds(labels, experiment)[0], experiment, 1).panel
    assert panel["volatility_probability_buy"].null_count() == panel.height
    assert panel["vol_20d"].null_count() == panel.height


def test_run_fold_refuses_training_rows_without_a_class() -> None:
    labels = labels_over("AAA")
    with pytest.raises(DegenerateLabelsError, match="rows of every class"):
        run_fold(labels, plan_folds(labels, SHORT)[0], SHORT, 1)


@pytest.mark.parametrize("number", [1, 2])
def test_run_fold_never_changes_with_the_future(
    walk_labels: pl.DataFrame, folds: tuple[Fold, ...], number: int
) -> None:
    fold = folds[number - 1]
    result = run_fold(walk_labels, fold, TRAINED, 1)
    known = result.panel["label_end"].max()
    cut = labels_of(WALKS.filter(pl.col("session") <= known))
    poisoned = labels_of(with_other_future(WALKS, known, seed=3))
    for labels in (cut, poisoned):
        assert not labels.equals(walk_labels)
        again = run_fold(labels, fold, TRAINED, 1)
        assert_frame_equal(again.panel, result.panel, check_exact=True)
        assert again.facts == result.facts


def test_run_fold_does_not_depend_on_threads(walk_labels: pl.DataFrame, folds: tuple[Fold, ...]) -> None:
    one, two = (run_fold(walk_labels, folds[0], TRAINED, threads).panel for threads in (1, 2))
    assert_frame_equal(one, two, check_exact=True)


def test_run_fold_refuses_unsorted_labels(walk_labels: pl.DataFrame, folds: tuple[Fold, ...]) -> None:
    shuffled = walk_labels.sample(fraction=1.0, shuffle=True, seed=5)
    with pytest.raises(PanelContractError, match="sorted by symbol and session"):
        run_fold(shuffled, folds[0], TRAINED, 1)


def test_sequential_calls_do_not_depend_on_row_order(record: pl.DataFrame) -> None:
    called, thresholds = sequential_calls(record, TRAINED)
    again, others = sequential_calls(record.sample(fraction=1.0, shuffle=True, seed=5), TRAINED)
    assert_frame_equal(called, again, check_exact=True)
    assert {number: chosen.to_json() for number, chosen in thresholds.items()} == {
        number: chosen.to_json() for number, chosen in others.items()
    }


def test_run_fold_of_earlier_folds_ignores_added_ones(folds: tuple[Fold, ...], record: pl.DataFrame) -> None:
    longer = pl.concat([WALKS, _continued(WALKS, 40)]).sort("symbol", "session")
    labels = labels_of(longer)
    added = Fold(4, folds[0].train_first, DAYS[160], DAYS[180])
    panels = {fold.number: run_fold(labels, fold, TRAINED, 1).panel for fold in (*folds, added)}
    assert_frame_equal(join_folds(panels).filter(pl.col("fold") < 4), record, check_exact=True)


def _continued(bars: pl.DataFrame, sessions: int) -> pl.DataFrame:
    """The last bar of each symbol again and again, a percent higher or lower."""
    last = bars.group_by("symbol", maintain_order=True).last()
    start = DAYS.index(bars["session"].max())  # type: ignore[arg-type]
    prices = ("open", "high", "low", "close")
    return pl.concat(
        last.with_columns(
            pl.lit(DAYS[start + i]).alias("session"), *(pl.col(name) * (1.01 + i % 2 * -0.02) for name in prices)
        )
        for i in range(1, sessions + 1)
    ).select(bars.columns)


def predictions(rows: list[tuple[int, int, float, str]]) -> pl.DataFrame:
    """Predicted rows of one symbol by fold, place of the session, p(BUY) and label; a label ends 2 sessions on."""
    return pl.DataFrame(
        {
            "symbol": ["AAA"] * len(rows),
            "session": [DAYS[place] for _, place, _, _ in rows],
            "fold": pl.Series([fold for fold, _, _, _ in rows], dtype=pl.Int16),
            "label": pl.Series([label for _, _, _, label in rows], dtype=LABEL_TYPE),
            "label_end": [DAYS[place + 2] for _, place, _, _ in rows],
            "probability_buy": [p for _, _, p, _ in rows],
            "probability_hold": [(1 - p) * 0.6 for _, _, p, _ in rows],
            "probability_sell": [(1 - p) * 0.4 for _, _, p, _ in rows],
            "predicted_label": pl.Series(["BUY" if p > 0.375 else "HOLD" for _, _, p, _ in rows], dtype=LABEL_TYPE),
            "vol_20d": [0.01] * len(rows),
        }
    )


ONE_SYMBOL = Experiment(horizon=2, bootstrap_draws=100, walk_forward=WalkForward(folds=3))
# p(BUY) is 0.3 before every BUY and 0.1 before every HOLD: a threshold sees what the most probable class does not.
TOLD = [(1 + place // 40, place, *((0.3, "BUY") if place % 2 else (0.1, "HOLD"))) for place in range(120)]


def test_sequential_calls_learn_from_earlier_folds() -> None:
    called, thresholds = sequential_calls(predictions(TOLD), ONE_SYMBOL)
    # The smallest value whose calls are better than all rows are (half of them BUY) is 0.3.
    assert {number: threshold.tau for number, threshold in thresholds.items()} == {1: None, 2: 0.3, 3: 0.3}
    assert "no earlier fold" in thresholds[1].reason
    calls = dict(called.group_by("fold").agg(pl.col("call").cast(pl.String).unique().sort()).iter_rows())
    # 0.3 is below its 0.7 x 0.6 = 0.42 for HOLD
    assert calls == {1: ["HOLD"], 2: ["BUY", "HOLD"], 3: ["BUY", "HOLD"]}
    assert called.filter(pl.col("fold") > 1)["call"].equals(called.filter(pl.col("fold") > 1)["label"])


def test_sequential_calls_never_read_their_own_or_later_sessions() -> None:
    panel = predictions(TOLD)
    before, thresholds = sequential_calls(panel, ONE_SYMBOL)
    for number, first in ((2, 40), (3, 80)):
        # Turned around: all whose label was known only in the fold's first session or later.
        late = pl.col("label_end") >= DAYS[first]
        turned = panel.with_columns(
            label=pl.when(late).then(pl.lit("SELL", LABEL_TYPE)).otherwise("label"),
            probability_buy=pl.when(late & (pl.col("fold") != number)).then(0.9).otherwise("probability_buy"),
        )
        after, changed = sequential_calls(turned, ONE_SYMBOL)
        assert changed[number].to_json() == thresholds[number].to_json()
        assert after.filter(fold=number)["call"].equals(before.filter(fold=number)["call"])


def test_sequential_calls_without_known_labels_take_the_most_probable_class() -> None:
    # The only row of fold 1 has a label that ends in fold 2's first session.
    rows = [(1, 0, 0.3, "BUY"), (2, 2, 0.3, "BUY"), (2, 3, 0.1, "HOLD")]
    _, thresholds = sequential_calls(predictions(rows), ONE_SYMBOL)
    assert thresholds[2].tau is None
    assert "no earlier fold" in thresholds[2].reason


def facts(fold: int, label_end: int, first: int, last: int) -> FoldFacts:
    return FoldFacts(
        fold, DAYS[0], DAYS[label_end - 2], DAYS[label_end], DAYS[first], DAYS[last], 10, last - first + 1
    )


def test_fold_table_by_hand() -> None:
    panel = predictions([(1, 10, 0.9, "BUY"), (1, 11, 0.9, "HOLD"), (1, 12, 0.1, "HOLD")])
    called, thresholds = sequential_calls(panel.with_columns(predicted_return=0.0, forward_return=0.0), ONE_SYMBOL)
    (row,) = fold_table(called, [facts(1, 9, 10, 12)], thresholds)
    assert row == {
        "fold": 1,
        "train_first": "2018-01-01",  # the first weekday
        "train_last": "2018-01-10",  # the 8th
        "train_last_label_end": "2018-01-12",  # the 10th
        "test_first": "2018-01-15",
        "test_last": "2018-01-17",
        "train_rows": 10,
        "rows": 3,
        "rank_ic": None,  # one name a session has no rank
        # One of two calls is right. Deciles of 3 rows hold one each: the two called ones have base rates 1 and 0.
        "matched_lift_buy": 1.0,
        "accuracy": pytest.approx(2 / 3),  # all but the middle one
        "majority_accuracy": pytest.approx(2 / 3),  # HOLD
        "tau": None,
    }


def predicted(fold: int, *places: int) -> pl.DataFrame:
    return pl.DataFrame({"fold": [fold] * len(places), "session": [DAYS[place] for place in places]})


def sound() -> tuple[list[FoldFacts], dict[int, pl.DataFrame]]:
    return [facts(1, 9, 10, 19), facts(2, 19, 20, 29)], {1: predicted(1, 10, 19), 2: predicted(2, 20, 29)}


def test_folds_overlap_finds_a_label_that_ends_in_the_fold() -> None:
    folds, panels = sound()
    ends = replace(folds[1], train_last_label_end=DAYS[20], test_first=DAYS[25])
    (found,) = folds_overlap([folds[0], ends], panels)
    assert found == f"fold 2 was trained on labels that end {DAYS[20]}, and predicts from {DAYS[20]} on"


def test_folds_overlap_finds_shared_missing_and_foreign_predictions() -> None:
    folds, panels = sound()
    assert folds_overlap(folds, panels) == []
    shared = panels | {2: predicted(2, 19, 20, 29)}
    found = folds_overlap([folds[0], replace(folds[1], train_last_label_end=DAYS[18])], shared)
    assert found == [f"fold 2 predicts from {DAYS[19]} on, and fold 1 up to {DAYS[19]}"]
    assert folds_overlap([*folds, facts(3, 29, 30, 39)], panels) == ["fold 3 has no predictions"]
    assert folds_overlap(folds, panels | {2: predicted(1, 20, 29)}) == ["fold 2 holds predictions of fold 1"]


def test_folds_overlap_of_trained_folds_is_empty(walk_labels: pl.DataFrame, folds: tuple[Fold, ...]) -> None:
    results = [run_fold(walk_labels, fold, TRAINED, 1) for fold in folds]
    assert folds_overlap([made.facts for made in results], {made.facts.fold: made.panel for made in results}) == []
    for earlier, later in pairwise(results):
        assert timedelta(0) < later.facts.test_first - earlier.facts.test_last <= timedelta(days=3)  # a weekend
