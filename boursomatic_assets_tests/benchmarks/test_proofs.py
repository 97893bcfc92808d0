"""The proofs, shortened: panels without a signal and with a planted one, evaluated from bars to the verdict.

`boursomatic bench --proofs` runs them in full; the README has the results.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.proofs import judge_panels
from boursomatic_assets.core.evaluation.proofs import NOTHING_TO_FIND, SOMETHING_TO_FIND, null_calibration, power
from boursomatic_assets_tests.support.installation import new_installation

if TYPE_CHECKING:
    from boursomatic_assets.core.evaluation.proofs import NullCalibration

PANELS = 40
# With 5 % expected, 9 or more of 40 have probability 0.0003 (binomial), for each of some twenty p-values.
# A naive test on overlapping sessions rejects about 20 of 40.
MOST_REJECTIONS = 8 / PANELS
# Of all p-values together, as in full.
LEAST_SHARE, MOST_SHARE = 0.02, 0.09


@pytest.fixture(scope="module")
def null() -> NullCalibration:
    return null_calibration(list(judge_panels(NOTHING_TO_FIND, PANELS)))


@pytest.mark.slow
def test_p_values_without_a_signal_are_low_about_as_often_as_they_say(null: NullCalibration) -> None:
    assert null.panels == PANELS
    assert {name: share for name, share in null.rejected.items() if share > MOST_REJECTIONS} == {}
    together = sum(null.rejected.values()) / len(null.rejected)
    assert LEAST_SHARE <= together <= MOST_SHARE


@pytest.mark.slow
def test_p_values_without_a_signal_cover_every_test(null: NullCalibration) -> None:
    assert {
        "rank_ic", "matched_rank_ic", "selection_lift_buy", "r2_over_prior", "buy_sharpe_ratio",
        "long_short_sharpe_ratio", "buy_deflated_sharpe", "daily return over volatility-only classifier",
        "daily return over 12-1 momentum", "daily return over equal weight", "superior_predictive_ability",
    } <= set(null.rejected)  # fmt: skip


@pytest.mark.slow
def test_matched_lift_without_a_signal_is_one(null: NullCalibration) -> None:
    assert null.matched_lift == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
def test_verdict_without_a_signal_is_no_evidence_of_skill(null: NullCalibration) -> None:
    assert null.no_evidence >= 0.93


@pytest.mark.slow
def test_verdict_with_a_planted_signal_is_skill() -> None:
    found = power(list(judge_panels(SOMETHING_TO_FIND, 1)))
    # One panel of 500 symbols and 1,250 sessions; in full there are twenty.
    assert found.planted_rank_ic == pytest.approx(0.05, abs=0.01)
    assert 0 < found.rank_ic < found.planted_rank_ic
    assert found.found == 1.0


@pytest.mark.slow
def test_bench_proofs_prints_the_results_and_stores_them_for_the_report() -> None:
    with new_installation() as installation:
        ended = installation.run_apart("bench", "--proofs", "--null-panels", "1", "--signal-panels", "0")
        assert ended.code == 0, ended.errors
        kept = json.loads((installation.artifacts / "proofs.json").read_text())
    assert kept["null"]["panels"] == 1
    assert "power" not in kept
    assert kept["measured"][:2] == "20"
    assert "share reported as no evidence of skill" in ended.said
    assert "planted signal" not in ended.said
