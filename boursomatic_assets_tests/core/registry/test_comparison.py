from __future__ import annotations

import json
import math
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.registry.comparison import compare
from boursomatic_assets_tests.support import judged
from boursomatic_assets_tests.support.judged import hand_made, judged_panel, on_sessions


def scored(panel: pl.DataFrame, losses: list[float]) -> pl.DataFrame:
    return panel.with_columns(loss=pl.Series(losses))


def test_compare_hand_made_calls() -> None:
    outcomes = {"forward_return": [0.1, 0.06, -0.1, 0.0]}
    actual = ["BUY", "BUY", "SELL", "HOLD"]
    one = hand_made(actual, ["BUY", "HOLD", "BUY", "HOLD"], **outcomes, predicted_return=[0.3, 0.1, 0.2, 0.0])
    two = hand_made(actual, ["BUY", "BUY", "HOLD", "HOLD"], **outcomes, predicted_return=[0.3, 0.2, 0.0, 0.1])
    five = [on_sessions(*[panel] * 5) for panel in (one, two)]
    # Means of sessions; the first session's first name loses 1.0 more in the one than in the other.
    losses = [1.0] * 20
    found = compare(
        scored(five[0], [2.0, *losses[1:]]), scored(five[1], losses), Experiment(horizon=2, bootstrap_draws=100)
    )
    # 1 of 4 rows in 1 of 5 sessions: (1.25 + 4 x 1.0) / 5
    assert (found.log_loss.challenger, found.log_loss.champion) == (1.05, 1.0)
    assert found.log_loss.value == pytest.approx(0.05)
    # Equally volatile rows, two of four BUY, spread over the deciles by symbol and session: of the twenty rows two
    # each. S000 and S001 are BUY in all five sessions, so their deciles are BUY throughout, the others never.
    assert (found.matched_lift.challenger, found.matched_lift.champion) == (1.0, 1.0)
    # Ranks of the returns 4, 3, 1, 2 against 4, 2, 3, 1: differences 0, 1, 2, 1 and 1 - 6 x 6 / 60 = 0.4;
    # against 4, 3, 1, 2: 1.
    assert found.rank_ic.challenger == pytest.approx(0.4)
    assert found.rank_ic.champion == pytest.approx(1.0)
    assert (found.rank_ic.low, found.rank_ic.high) == (pytest.approx(-0.6), pytest.approx(-0.6))
    assert (found.rows, found.sessions) == (20, 5)
    assert (found.first_session, found.last_session) == (date(2018, 1, 1), date(2018, 1, 5))


def test_compare_without_buy_calls_or_ranks_says_why() -> None:
    panel = on_sessions(*[hand_made(["BUY", "HOLD", "SELL"], ["HOLD"] * 3)] * 4)
    found = compare(scored(panel, [1.0] * 12), scored(panel, [1.0] * 12), Experiment(horizon=1))
    for part in (found.matched_lift, found.rank_ic):
        assert all(math.isnan(value) for value in (part.challenger, part.value, part.low, part.high))
    written = found.to_json()
    assert written["matched_lift_buy"]["difference"] is None
    assert "no BUY call" in written["matched_lift_buy"]["why_undefined"]
    assert "rank" in written["rank_ic"]["why_undefined"]
    assert written["log_loss"]["why_undefined"] is None
    json.dumps(written, allow_nan=False)


@given(st.integers(0, 10_000), st.integers(8, 16))
def test_compare_exchanged_gives_the_opposite_differences(seed: int, sessions: int) -> None:
    draw = np.random.default_rng(seed)
    panels = [
        judged_panel(12, sessions, seed).with_columns(
            call=pl.Series(draw.permutation(judged_panel(12, sessions, seed)["call"].to_list()), dtype=LABEL_TYPE),
            predicted_return=pl.Series(draw.normal(size=12 * sessions)),
            loss=pl.Series(draw.exponential(size=12 * sessions)),
        )
        for _ in range(2)
    ]
    there, back = compare(*panels, judged.EXPERIMENT), compare(*panels[::-1], judged.EXPERIMENT)
    for name in ("log_loss", "matched_lift", "rank_ic"):
        one, other = getattr(there, name), getattr(back, name)
        assert (one.challenger, one.champion) == (other.champion, other.challenger)
        np.testing.assert_allclose(
            [one.value, one.low, one.high], [-other.value, -other.high, -other.low], rtol=1e-9, atol=1e-12
        )
    loss = there.log_loss
    # One-sided at 5 %: nearer than the end of the interval that leaves 2.5 % on each side.
    assert loss.value < loss.upper_bound < loss.high
    assert (there.rows, there.sessions) == (12 * sessions, sessions)
    json.dumps(there.to_json(), allow_nan=False)
