from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS
from boursomatic_assets.core.drift.prediction_windows import PREDICTION_STATISTICS
from boursomatic_assets.core.drift.reference import Reference, Tail
from boursomatic_assets.core.drift.windows import FEATURE_STATISTICS, PREDICTIONS
from boursomatic_assets.core.registry.bundle import strict_json
from boursomatic_assets_tests.support.drifting import features_of, reference_until, sessions_of, simulated_bars


def test_tail_beyond_the_ninth_tenth() -> None:
    # 0 to 100 in rising order: ten values exceed the 90 % quantile of 90
    history = np.array([float(value) for value in range(101)])
    tail = Tail.of(history)
    assert tail.body[-1] == pytest.approx(90)
    # mean of 1 to 10
    assert tail.excess == pytest.approx(5.5)
    # one after the other: a single event
    assert (tail.clusters, tail.windows) == (1, 101)
    # with one event the tail is 0.1 / (1 + x / 5.5)
    assert tail.p_values(np.array([50.0, 90.0, 95.5])) == pytest.approx([0.5, 0.1, 0.05])
    assert [tail.level(p) for p in (0.5, 0.1, 0.05)] == pytest.approx([50.0, 90.0, 95.5])


def test_tail_counts_exceedances_less_than_a_window_apart_as_one_event() -> None:
    history = np.zeros(200)
    history[[3, 7, 8, 12, 40, 45, 100]] = 1.0
    # 3, 7, 8 and 12 are at most 4 apart; 40 and 45 are 5 apart
    assert Tail.of(history).clusters == 4


def test_tail_of_a_constant_history_knows_only_its_length() -> None:
    tail = Tail.of(np.zeros(200))
    # 200 windows, of which every fifth is independent: 1 / 41
    assert tail.p_values(np.array([0.0, 1e-9, 5.0])) == pytest.approx([0.1, 1 / 41, 1 / 41])
    assert np.isnan(tail.level(0.001))


@given(st.integers(0, 1000), st.floats(1e-9, 0.09))
def test_tail_level_is_the_inverse_of_p_values(seed: int, p_value: float) -> None:
    tail = Tail.of(np.random.default_rng(seed).lognormal(size=300))
    assert tail.p_values(np.array([tail.level(p_value)])) == pytest.approx([p_value], rel=1e-6)


@given(st.lists(st.floats(0, 100), min_size=2), st.integers(0, 1000))
def test_tail_p_values_fall_with_the_value(values: list[float], seed: int) -> None:
    tail = Tail.of(np.random.default_rng(seed).exponential(size=200))
    chances = tail.p_values(np.sort(values))
    assert (np.diff(chances) <= 1e-12).all()
    assert ((chances > 0) & (chances <= 1)).all()


def test_reference_is_strict_json_and_reads_back() -> None:
    rows = features_of(simulated_bars(6, 420, 0))
    made = reference_until(rows, sessions_of(rows)[-1])
    stored = json.loads(strict_json(made))
    assert stored == made
    profile = stored["features"][0]
    assert len(profile["edges"]) == 9
    # equal mass: a tenth in each of ten bins, none without a value
    assert profile["shares"] == pytest.approx([0.1] * 10 + [0.0], abs=0.003)
    assert sum(stored["predictions"]["class_mix"].values()) == pytest.approx(1)
    read = Reference.read(stored)
    assert read.scale.features == DEFAULT_INPUTS
    # 400 sessions with features hold 376 windows; the predictions of their last 120 sessions too few, 96
    assert set(read.tails) == {(name, statistic) for name in DEFAULT_INPUTS for statistic in FEATURE_STATISTICS}
    assert read.tails["ret_1d", "psi"].windows == 376


def test_reference_of_enough_predictions_has_their_history() -> None:
    rows = features_of(simulated_bars(3, 480, 0))
    tails = Reference.read(reference_until(rows, sessions_of(rows)[-1])).tails
    # 460 sessions: the last 138 are predicted, 114 windows
    assert [tails[PREDICTIONS, statistic].windows for statistic in PREDICTION_STATISTICS] == [114, 114]


@pytest.mark.parametrize("sessions", [22, 60])
def test_reference_of_a_short_panel_has_no_history(sessions: int) -> None:
    rows = features_of(simulated_bars(4, sessions, 0))
    made = reference_until(rows, sessions_of(rows)[-1])
    assert made["history"] == []
    assert made["sessions"] == sessions - 20
    json.dumps(made, allow_nan=False)
