from __future__ import annotations

import json
import math
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.measures.detection import WANTED_RANK_IC, Detection, detection, detections
from boursomatic_assets.core.measures.inference import newey_west_error
from boursomatic_assets.core.measures.ranking import matched_rank_ic, rank_ic, rank_ics
from boursomatic_assets_tests.support.judged import judged_panel


def test_detection_is_two_standard_errors_and_the_years_follow() -> None:
    # 504 sessions are two years. Smallest: 2 * 0.02 = 0.04, four times 0.01: 2 * 4^2 = 32 years.
    power = Detection("Rank IC", 504, 0.02)
    sentence = (
        "Rank IC: the smallest that 2.0 years could have shown is 0.0400 (two standard errors); 0.01 would need "
        "32.0 years."
    )
    assert power.to_json() == {
        "title": "Rank IC", "sessions": 504, "years": 2.0, "standard_error": 0.02, "smallest": 0.04,
        "wanted": 0.01, "years_for_wanted": pytest.approx(32.0), "why_undefined": None, "sentence": sentence,
    }  # fmt: skip
    # 2 * 0.005 = 0.01: three years are just enough.
    assert Detection("Rank IC", 756, 0.005).years_needed == pytest.approx(3.0)


def test_detection_error_is_robust_to_overlap() -> None:
    values = np.array([1.0, -1.0] * 10) * 0.1 + 0.01
    # Without overlap: deviation 0.1, over the root of 20.
    assert detection("Rank IC", values, 1).error == pytest.approx(0.1 / math.sqrt(20))
    # With lag 4 the alternating signs cancel.
    assert detection("Rank IC", values, 5).error == newey_west_error(values, 4) < 0.1 / math.sqrt(20)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "0 sessions have one, and 7 are needed"),
        ([0.3], "1 sessions have one, and 7 are needed"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "6 sessions have one, and 7 are needed"),
        ([0.3] * 10, "it does not vary between sessions"),
    ],
)
def test_detection_without_an_error_is_null_with_a_reason(values: list[float], why: str) -> None:
    found = detection("Rank IC", np.array(values), 5)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [written[name] for name in ("standard_error", "smallest", "years_for_wanted")] == [None] * 3
    assert written["why_undefined"] == why
    assert written["sentence"] == f"Rank IC: what this sample could have shown is not available ({why})."


@given(st.lists(st.floats(-1, 1), min_size=7, max_size=60), st.integers(1, 5))
def test_detection_years_needed_make_the_wanted_figure_two_errors(values: list[float], horizon: int) -> None:
    found = detection("Rank IC", np.array(values), horizon)
    if found.why_undefined:
        assert math.isnan(found.smallest)
        return
    # An error over N years is that over T times the root of T / N.
    then = found.error * math.sqrt(found.years / found.years_needed)
    assert WANTED_RANK_IC / then == pytest.approx(2.0)
    said = re.search(r"could have shown is ([\d.]+) .* would need ([\d.]+) years", found.sentence)
    assert said is not None
    assert float(said[1]) == pytest.approx(found.smallest, abs=5.1e-5)
    assert float(said[2]) == pytest.approx(found.years_needed, abs=0.051)


def test_detections_cover_both_rank_ics() -> None:
    judged = judged_panel(20, 40, seed=1)
    found = detections(rank_ics(judged), 5)
    expected = {"rank_ic": rank_ic(judged), "matched_rank_ic": matched_rank_ic(judged)}
    for name, coefficients in expected.items():
        assert found[name].error == newey_west_error(coefficients["rank_ic"].to_numpy(), 4)
    assert [each.title for each in found.values()] == ["Rank IC", "Rank IC at equal volatility"]
    alone = detections(rank_ics(judged.filter(pl.col("symbol") == "S000")), 5)
    assert alone["rank_ic"].why_undefined == "0 sessions have one, and 7 are needed"
