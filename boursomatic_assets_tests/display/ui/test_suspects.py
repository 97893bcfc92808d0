from __future__ import annotations

from boursomatic_assets.core.evaluation.evaluation import Suspects
from boursomatic_assets.core.portfolio.benchmark import NO_BENCHMARK
from boursomatic_assets.display.report.chapter import Chapter
from boursomatic_assets.display.report.page import environment
from boursomatic_assets.display.terminal.closing import rests_on_lines
from boursomatic_assets.display.ui.suspects import NONE_FOUND, rests_on, suspects_metadata

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


def test_what_figures_rest_on_is_said_in_a_sentence_each() -> None:
    quiet = rests_on(NO_BENCHMARK, QUIET)
    assert quiet == {"benchmark": NO_BENCHMARK, "suspect_prices": NONE_FOUND}
    loud = rests_on("SPY covers 3 of 5 sessions", LOUD)
    assert loud == {"benchmark": "SPY covers 3 of 5 sessions", "suspect_prices": "The figures rest on [x86]"}


def test_a_warning_names_symbol_session_and_the_move_back() -> None:
    assert suspects_metadata(QUIET) == {"suspect_moves": 0, "possible": True, "instruments": 5}
    table = suspects_metadata(LOUD)["moves"].value
    assert all(part in table for part in ("ENGI.PA", "2009-03-02", "86", "2009-03-03"))
    assert "instruments" not in suspects_metadata(QUIET.model_copy(update={"instruments": None}))


def test_the_terminal_says_what_deserves_a_look_and_nothing_else() -> None:
    quiet = {"benchmark": NO_BENCHMARK, "suspect_prices": NONE_FOUND}
    loud = {"benchmark": "SPY covers 3 of 5 sessions", "suspect_prices": "The figures rest on [x86]"}
    assert rests_on_lines({}) == rests_on_lines({"evaluation": quiet, "walk_forward_summary": quiet}) == []
    assert rests_on_lines({"evaluation": loud, "walk_forward_summary": quiet}) == [
        r"[yellow]The figures rest on \[x86][/yellow] (test set)",
        "Benchmark, test set: SPY covers 3 of 5 sessions",
    ]


def test_the_report_says_which_sessions_the_benchmark_covers() -> None:
    chapter = environment().get_template("chapter.html").module.chapter  # type: ignore[attr-defined]
    covered = {"scope": "test set", "benchmark": {"sentence": "SPY covers 3 of 5 sessions"}}
    assert "Benchmark: SPY covers 3 of 5 sessions." in chapter(Chapter(covered))
    assert "Benchmark:" not in chapter(Chapter({"scope": "test set"}))
