"""An evaluation in the UI, in the terminal and in the report: figures, verdict, reach, suspect prices."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rich.console import Console

from boursomatic_assets.core.evaluation.evaluation import Reach, RecordedSurvivors, Suspects
from boursomatic_assets.core.evaluation.recorded import RecordedFigure
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.core.portfolio.benchmark import NO_BENCHMARK
from boursomatic_assets.display.report.chapter import chapter_of
from boursomatic_assets.display.report.page import environment
from boursomatic_assets.display.terminal.closing import conclusion_lines, rests_on_lines
from boursomatic_assets.display.ui.evaluation import (
    NONE_FOUND,
    figures_table,
    reach_metadata,
    rests_on,
    shown,
    suspects_metadata,
)
from boursomatic_assets_tests.support.synthetic_report import SURVIVORS, evaluation_of

QUIET = Suspects(
    instruments=5, moves=[], moves_found=0, instruments_grown=[], book_sessions=[], figures=[], possible=True,
    sentence=None,
)  # fmt: skip
MOVE = {
    "symbol": "ENGI.PA", "session": "2009-03-02", "ratio": 86.0, "back_on": "2009-03-03", "back_ratio": 0.0116,
    "possible": False,
}  # fmt: skip
LOUD = QUIET.model_copy(
    update={"moves": [MOVE], "moves_found": 1, "possible": False, "sentence": "The figures rest on [x86]"}
)


def recorded(figure: Figure) -> RecordedFigure:
    return RecordedFigure.model_validate(figure.to_json())


@pytest.mark.parametrize(
    ("figure", "row"),
    [
        (
            Figure("rank_ic", "Rank IC", "ranking", 0.0213, -0.0101, 0.0527, 0.0874, 0.0, 0.03, "12-1 momentum"),
            "| Rank IC | 0.021 | -0.010 to 0.053 | 0.087 | 0.000 | 0.030 | 12-1 momentum |",
        ),
        (
            Figure("accuracy", "Accuracy", "classification", 0.41234, 0.4, 0.425, unit="percent", no_skill=0.38),
            "| Accuracy | 41.23 % | 40.00 % to 42.50 % |  | 38.00 % |  |  |",
        ),
        (
            Figure("lift_buy", "BUY lift", "classification", math.nan, why_undefined="no BUY call"),
            "| BUY lift | no BUY call |  |  |  |  |  |",
        ),
    ],
    ids=["number", "percent", "undefined"],
)
def test_figures_table_has_a_row_per_figure(figure: Figure, row: str) -> None:
    lines = figures_table([recorded(figure)] * 3).splitlines()
    assert lines[2:] == [row] * 3
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize(("unit", "expected"), [("number", "-0.500"), ("percent", "-50.00 %")])
def test_shown_gives_any_number_of_a_figure_in_its_unit(unit: str, expected: str) -> None:
    figure = recorded(Figure("a", "A", "ranking", math.nan, baseline=-0.5, unit=unit))
    assert shown(figure, "baseline") == expected
    assert not shown(figure, "low")


def test_rests_on_is_a_sentence_each() -> None:
    quiet = rests_on(NO_BENCHMARK, QUIET)
    assert quiet == {"benchmark": NO_BENCHMARK, "suspect_prices": NONE_FOUND}
    loud = rests_on("SPY covers 3 of 5 sessions", LOUD)
    assert loud == {"benchmark": "SPY covers 3 of 5 sessions", "suspect_prices": "The figures rest on [x86]"}


def test_suspects_metadata_names_symbol_session_and_the_move_back() -> None:
    assert suspects_metadata(QUIET) == {"suspect_moves": 0, "possible": True, "instruments": 5}
    table = suspects_metadata(LOUD)["moves"].value
    assert all(part in table for part in ("ENGI.PA", "2009-03-02", "86", "2009-03-03"))
    assert "instruments" not in suspects_metadata(QUIET.model_copy(update={"instruments": None}))


def test_rests_on_lines_are_only_what_needs_a_look() -> None:
    quiet = {"benchmark": NO_BENCHMARK, "suspect_prices": NONE_FOUND}
    loud = {"benchmark": "SPY covers 3 of 5 sessions", "suspect_prices": "The figures rest on [x86]"}
    assert rests_on_lines({}) == rests_on_lines({"evaluation": quiet, "walk_forward_summary": quiet}) == []
    assert rests_on_lines({"evaluation": loud, "walk_forward_summary": quiet}) == [
        r"[yellow]The figures rest on \[x86][/yellow] (test set)",
        "Benchmark, test set: SPY covers 3 of 5 sessions",
    ]


def test_chapter_names_the_sessions_of_the_benchmark() -> None:
    chapter = environment().get_template("chapter.html").module.chapter  # type: ignore[attr-defined]
    covered = {"scope": "test set", "benchmark": {"sentence": "SPY covers 3 of 5 sessions"}}
    assert "Benchmark: SPY covers 3 of 5 sessions." in chapter(chapter_of(covered))
    assert "Benchmark:" not in chapter(chapter_of({"scope": "test set"}))


def reach_of(sessions: int) -> dict[str, Any]:
    stored = evaluation_of(sessions)
    reach = {name: Reach.model_validate(each) for name, each in stored["could_have_been_seen"].items()}
    return reach_metadata(reach, RecordedSurvivors.model_validate(stored["survivors"]))


def made_of(sessions: int) -> dict[str, Any]:
    return {"verdict": f"No evidence of skill: [{sessions}].", **reach_of(sessions)}


def printed_lines(made: dict[str, Any]) -> str:
    console = Console(width=10_000)
    with console.capture() as captured:
        for line in conclusion_lines(made):
            console.print(line)
    return captured.get()


def test_conclusion_lines_begin_with_the_record_of_skill_and_name_survivors_once() -> None:
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


def test_conclusion_lines_skip_assets_without_a_verdict() -> None:
    assert conclusion_lines({"price_bars": {}}) == []
    assert len(conclusion_lines({"evaluation": made_of(252)})) == 3


def test_reach_metadata_leaves_out_undefined_numbers() -> None:
    metadata = reach_of(252)
    assert metadata["rank_ic_smallest"] == 0.023
    assert "rank_ic_years_for_wanted" in metadata
    assert "matched_rank_ic_smallest" not in metadata
    assert (metadata["symbols_ended"], metadata["survivors"]) == (2, SURVIVORS.sentence)
    assert "| 2016" in metadata["survivors_by_year"].value
