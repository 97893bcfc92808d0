from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profiles
from boursomatic_assets.core.recommendations.evidence import Evidence
from boursomatic_assets_tests.support.traced import CONTENT, evidence_of, stored


def test_evidence_reads_a_snapshot_back() -> None:
    evidence = evidence_of(stored())
    assert evidence.content == CONTENT
    assert evidence.bars.adjustments == [(date(2018, 3, 1), 0.5)]
    assert evidence.raw == stored()["snapshot"]


def test_evidence_of_a_dividend_has_a_separate_ratio_of_volumes() -> None:
    bars = {"adjustments": [["2018-02-01", 0.99, 1.0], ["2018-03-01", 0.5]]}
    assert evidence_of(stored(), bars=bars).bars.adjustments == [
        (date(2018, 2, 1), 0.99, 1.0),
        (date(2018, 3, 1), 0.5),
    ]


def test_evidence_has_the_recorded_profile_under_every_name() -> None:
    profiles = evidence_of(stored()).profiles
    assert [getattr(profiles, name) for name in PROFILE_NAMES] == [Profiles().moderate] * 3


@pytest.mark.parametrize("bars", [{}, {"inputs": None}])
def test_evidence_without_recorded_bars_has_no_content(bars: dict[str, Any]) -> None:
    assert evidence_of(stored(), bars=bars).content is None


@pytest.mark.parametrize("snapshot", [None, [], "text", {}, {"rsi_14": 50.0}])
def test_evidence_refuses_another_programs_snapshot(snapshot: object) -> None:
    assert "another program" in str(Evidence.of(snapshot))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"close": "dear"}, "close:"),
        ({"probabilities": {"BUY": 0.5}}, "probabilities.HOLD: Field required"),
        ({"features": {"vol_20d": 0.1, "atr_14": None}}, "features lack atr_14"),
        ({"profile": {**stored()["snapshot"]["profile"], "name": "wild"}}, "profile.name:"),
        ({"close": float("inf")}, "close:"),
    ],
)
def test_evidence_says_what_is_wrong_with_a_snapshot(change: dict[str, Any], said: str) -> None:
    found = Evidence.of({**stored()["snapshot"], **change})
    assert str(found).startswith("the snapshot cannot be read")
    assert said in str(found)
