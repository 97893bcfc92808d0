"""The closing words of a run: verdicts, what could have been seen, and survivors."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from boursomatic_assets.core.evaluation.evaluation import Reach, RecordedSurvivors
from boursomatic_assets.display.terminal.closing import conclusion_lines
from boursomatic_assets.display.ui.evaluation import reach_metadata
from boursomatic_assets_tests.support.synthetic_report import SURVIVORS, evaluation_of


def reach_of(sessions: int) -> dict[str, Any]:
    found = evaluation_of(sessions)
    reach = {name: Reach.model_validate(stored) for name, stored in found["could_have_been_seen"].items()}
    return reach_metadata(reach, RecordedSurvivors.model_validate(found["survivors"]))


def made_of(sessions: int) -> dict[str, Any]:
    return {"verdict": f"No evidence of skill: [{sessions}].", **reach_of(sessions)}


def printed_lines(made: dict[str, Any]) -> str:
    console = Console(width=10_000)
    with console.capture() as captured:
        for line in conclusion_lines(made):
            console.print(line)
    return captured.get()


def test_the_record_of_skill_comes_first_and_survivors_are_told_once() -> None:
    # 504 sessions are two years: two errors are 0.023, and 2 * 5.29 = 10.58.
    said = printed_lines({"evaluation": made_of(252), "walk_forward_summary": made_of(504), "metrics": {}})
    unknown = (
        "Rank IC at equal volatility: what this sample could have shown is not available (1 sessions have one, and "
        "22 are needed)."
    )
    assert said.splitlines() == [
        "Walk-forward: No evidence of skill: [504].",
        (
            "  Rank IC: the smallest that 2.0 years could have shown is 0.0230 (two standard errors); "
            f"0.01 would need 10.6 years. {unknown}"
        ),
        "Test set: No evidence of skill: [252].",
        (
            "  Rank IC: the smallest that 1.0 years could have shown is 0.0230 (two standard errors); "
            f"0.01 would need 5.3 years. {unknown}"
        ),
        SURVIVORS.sentence,
    ]


def test_a_run_that_concludes_nothing_says_nothing() -> None:
    assert conclusion_lines({"price_bars": {}}) == []
    assert len(conclusion_lines({"evaluation": made_of(252)})) == 3


def test_what_is_undefined_plots_nowhere() -> None:
    metadata = reach_of(252)
    assert metadata["rank_ic_smallest"] == 0.023
    assert "rank_ic_years_for_wanted" in metadata
    assert "matched_rank_ic_smallest" not in metadata
    assert (metadata["symbols_ended"], metadata["survivors"]) == (2, SURVIVORS.sentence)
    assert "| 2016" in metadata["survivors_by_year"].value
