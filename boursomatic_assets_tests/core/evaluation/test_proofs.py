from __future__ import annotations

import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, WalkForward
from boursomatic_assets.core.evaluation.proofs import (
    EXPERIMENT,
    SimulatedEvaluation,
    judge_simulated,
    null_calibration,
    power,
)
from boursomatic_assets.core.evaluation.recorded import RecordedFigure
from boursomatic_assets.core.evaluation.verdict import Verdict
from boursomatic_assets.core.market.simulation import SimulatedMarket

SMALL = EXPERIMENT.model_copy(
    update={
        "classifier": BoosterParameters(n_estimators=5),
        "regressor": BoosterParameters(n_estimators=5),
        "bootstrap_draws": 100,
        "walk_forward": WalkForward(folds=2),
    }
)


def test_judge_simulated_reaches_a_verdict_and_repeats_it() -> None:
    market = SimulatedMarket(symbols=20, sessions=400, signal=0.3)
    first, again = (judge_simulated(market, 7, SMALL, threads=threads) for threads in (1, 2))
    assert first == again
    assert first.scope == "walk-forward"
    assert first.verdict.sentence
    # Volume shows a drift of 0.3 deviations a day: its rank goes with that of the return.
    assert first.planted_rank_ic > 0.1
    assert judge_simulated(SimulatedMarket(symbols=20, sessions=400), 7, SMALL).planted_rank_ic < 0.1


def evaluation(p_value: float, lift: float | None, *, skill: bool, rank_ic: float = 0.0) -> SimulatedEvaluation:
    figures = {"rank_ic": (rank_ic, p_value), "matched_lift_buy": (lift, None)}
    return SimulatedEvaluation.model_construct(
        figures=[
            RecordedFigure(name=name, title=name, group="ranking", value=value, p_value=p)
            for name, (value, p) in figures.items()
        ],
        comparisons=[],
        superior_predictive_ability={"p_value": None},
        verdict=Verdict(skill=skill, sentence="", remarks=()),
        planted_rank_ic=0.05,
    )


def test_null_calibration_counts_rejections_and_averages_lifts() -> None:
    judged = [
        evaluation(0.04, 1.1, skill=True),
        evaluation(0.05, 0.9, skill=False),
        evaluation(0.60, None, skill=False),
        evaluation(0.01, 1.3, skill=False),
    ]
    found = null_calibration(judged)
    # 0.04 and 0.01 are below 0.05, of four; 0.05 itself is not. (1.1 + 0.9 + 1.3) / 3 = 1.1.
    assert found.panels == 4
    assert found.rejected == {"rank_ic": 0.5}
    assert found.matched_lift == pytest.approx(1.1)
    assert found.no_evidence == 0.75


def test_power_is_the_share_found() -> None:
    judged = [evaluation(0.0, 1.2, skill=skill, rank_ic=ic) for skill, ic in ((True, 0.04), (False, 0.02))]
    found = power(judged)
    assert (found.panels, found.found) == (2, 0.5)
    assert (found.planted_rank_ic, found.rank_ic) == (pytest.approx(0.05), pytest.approx(0.03))
