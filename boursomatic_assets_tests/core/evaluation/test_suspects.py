from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.judging import evaluate_judged
from boursomatic_assets.core.evaluation.plausibility import growth_bound, rmse_bound
from boursomatic_assets.core.evaluation.price_moves import suspect_moves
from boursomatic_assets.core.evaluation.survivors import Survivors
from boursomatic_assets.core.evaluation.suspects import (
    REMEDY,
    impossible_prices,
    qualified,
    suspects_of,
    with_benchmark,
)
from boursomatic_assets.core.evaluation.verdict import Verdict
from boursomatic_assets.core.portfolio.book import TrancheBook
from boursomatic_assets.core.portfolio.books import judged_books
from boursomatic_assets_tests.support.judged import EXPERIMENT, HORIZON, judged_panel
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

SYMBOLS, SESSIONS = 20, 40
D = weekdays(SESSIONS + HORIZON + 1)
TIMES = "\N{MULTIPLICATION SIGN}"
NAMES = [f"S{number:03d}" for number in range(SYMBOLS)]
JUDGED = judged_panel(SYMBOLS, SESSIONS, seed=1)
# S007 is bought in each session, and nothing else: what it does the book does.
ONLY = JUDGED.with_columns(
    call=pl.when(pl.col("symbol") == "S007")
    .then(pl.lit("BUY"))
    .otherwise(pl.lit("HOLD"))
    .cast(JUDGED["call"].dtype)
)
SKILL = Verdict(skill=True, sentence="Evidence of skill: the rank IC 0.1 (p 0.001).", remarks=("First.",))
NO_SKILL = Verdict(skill=False, sentence="No evidence of skill: the rank IC 0 (p 0.5).", remarks=())


def closes_with(symbol: str = "S007", changed: dict[int, float] | None = None) -> pl.DataFrame:
    """Closes of 100 everywhere, but for one symbol's at some sessions."""
    panel = pl.DataFrame({"symbol": NAMES, "close": [100.0] * SYMBOLS}).join(
        pl.DataFrame({"session": D}), how="cross"
    )
    for place, close in (changed or {}).items():
        there = (pl.col("symbol") == symbol) & (pl.col("session") == D[place])
        panel = panel.with_columns(close=pl.when(there).then(close).otherwise("close"))
    return panel.select("symbol", "session", "close").sort("symbol", "session")


def found_in(closes: pl.DataFrame, judged: pl.DataFrame = JUDGED, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    experiment = EXPERIMENT.model_copy(update=changes)
    books = judged_books(judged, closes, HORIZON, 0.0)
    return suspects_of(judged, books, closes, experiment).model_dump()


def test_suspects_of_quiet_prices_are_none() -> None:
    found = found_in(closes_with())
    assert found == {
        "instruments": 20, "moves": [], "moves_found": 0, "instruments_grown": [], "book_sessions": [],
        "figures": [], "possible": True, "sentence": None,
    }  # fmt: skip


def test_suspects_name_symbol_and_sessions_of_a_wrong_price_behind_each_book() -> None:
    # Each of 5 tranches holds 20 names at 1/20: in session 20 the book gains (86 - 1) / 20 = 4.25; in 21 a
    # tranche with 19 x 5 % + 430 % = 525 % falls back to 100 %, and the others, filled in 20 at 8600, likewise: the
    # share of S007 falls to 1/86.
    found = found_in(closes_with(changed={20: 8600.0}))
    (move,) = found["moves"]
    assert (move["symbol"], move["session"], move["ratio"]) == ("S007", str(D[20]), 86.0)
    assert (move["back_on"], move["possible"], found["possible"]) == (str(D[21]), False, False)
    up, down = [row for row in found["book_sessions"] if row["book"] == "equal_weight"]
    assert (up["session"], up["symbol"], up["ratio"]) == (str(D[20]), "S007", 86.0)
    assert up["return"] == pytest.approx(85 / 20, rel=1e-9)
    # four tranches of 5.25 fall to 1, the one that was filled at 8600 loses 85/86 of its twentieth
    assert down["return"] == pytest.approx((4 * (1 / 5.25 - 1) - 85 / 86 / 20) / 5, rel=1e-9)
    assert (down["session"], down["symbol"]) == (str(D[21]), "S007")
    assert found["sentence"].startswith(
        f"The figures rest on suspect prices: S007 {D[20]} {TIMES}86 (back on {D[21]}), "
    )


def test_suspects_name_a_missed_reverse_split_behind_the_buy_book() -> None:
    # 100 -> 2000 and stays: the BUY book, which holds nothing else, earns 1900 % in that session and in no other
    later = dict.fromkeys(range(20, len(D)), 2000.0)
    found = found_in(closes_with(changed=later), ONLY)
    (move,) = found["moves"]
    assert (move["symbol"], move["session"], move["ratio"], move["back_on"]) == ("S007", str(D[20]), 20.0, None)
    assert not found["possible"]
    (row,) = [row for row in found["book_sessions"] if row["book"] == "buy"]
    assert (row["session"], row["symbol"], row["ratio"]) == (str(D[20]), "S007", 20.0)
    assert row["return"] == pytest.approx(19.0, rel=1e-9)
    # 40 + 5 sessions are less than a year: bound 4 - 1
    (total,) = [row for row in found["figures"] if row["name"] == "total_return_buy"]
    assert (total["symbol"], total["session"], total["bound"]) == ("S007", str(D[20]), 3.0)
    assert total["value"] == pytest.approx(19.0, rel=1e-9)


@pytest.mark.parametrize("close", [70.0, 200.0], ids=["earnings", "squeeze"])
def test_suspects_pass_what_stocks_do(close: float) -> None:
    assert found_in(closes_with(changed=dict.fromkeys(range(20, len(D)), close)))["sentence"] is None


def test_suspects_pass_a_session_like_march_2020() -> None:
    crash = closes_with().with_columns(close=pl.when(pl.col("session") >= D[20]).then(88.0).otherwise("close"))
    assert found_in(crash)["sentence"] is None


def test_suspects_count_moves_while_something_is_held_only() -> None:
    judged = JUDGED.filter(pl.col("session").is_between(D[10], D[20]))
    # judged to 20, filled at 21, sold at 26
    for place, count in ((9, 0), (10, 0), (11, 1), (26, 1), (27, 0)):
        later = closes_with(changed=dict.fromkeys(range(place, len(D)), 2000.0))
        assert found_in(later, judged)["moves_found"] == count, place


def test_suspects_count_moves_until_the_labels_end() -> None:
    judged = JUDGED.with_columns(label_end=pl.lit(D[-1]))
    assert found_in(closes_with(changed={len(D) - 1: 2000.0}), judged)["moves_found"] == 1


def test_suspects_leave_out_explained_moves() -> None:
    closes = closes_with(changed=dict.fromkeys(range(20, len(D)), 2000.0))
    real = closes.with_columns(explained=(pl.col("symbol") == "S007") & (pl.col("session") == D[20]))
    found = found_in(real, ONLY)
    assert (found["moves"], found["instruments_grown"], found["possible"]) == ([], [], True)
    # What the book earned by them stays beyond its bound, and is named.
    assert [row["symbol"] for row in found["book_sessions"] if row["book"] == "buy"] == ["S007"]


def test_suspects_name_an_instrument_that_creeps_up() -> None:
    # 12 % in each of the 46 sessions is a growth of 1.12^45 = 164, and no single move
    creeping = {place: 100 * 1.12**place for place in range(len(D))}
    (grown,) = found_in(closes_with(changed=creeping))["instruments_grown"]
    assert (grown["symbol"], grown["first"], grown["last"]) == ("S007", str(D[0]), str(D[45]))
    assert grown["growth"] == pytest.approx(1.12**45, rel=1e-9)


def test_suspects_name_the_worst_row_of_an_rmse_beyond_half() -> None:
    # 800 rows: errors of 0 and one of 20: sqrt(400 / 800) = 0.707 > 0.5
    exact = JUDGED.with_columns(predicted_return="forward_return")
    there = (pl.col("symbol") == "S003") & (pl.col("session") == D[7])
    judged = exact.with_columns(
        predicted_return=pl.col("forward_return") + pl.when(there).then(20.0).otherwise(0.0)
    )
    (figure,) = found_in(closes_with(), judged)["figures"]
    assert figure == {
        "name": "rmse", "value": pytest.approx(0.5**0.5, rel=1e-9), "bound": 0.5, "symbol": "S003",
        "session": str(D[7]),
    }  # fmt: skip
    assert found_in(closes_with(), exact)["figures"] == []


def test_bounds_grow_with_horizon_and_years() -> None:
    assert rmse_bound(20) == rmse_bound(5) == 0.5
    assert rmse_bound(80) == 1.0
    assert growth_bound(4.0, 0.1) == growth_bound(4.0, 1.0) == 4.0
    assert growth_bound(4.0, 2.0) == 16.0


def test_suspects_name_a_benchmark_that_jumps() -> None:
    index = pl.DataFrame({"session": D, "close": [100.0] * 20 + [140.0] * 26})
    closes = with_benchmark(closes_with(), "SPY", index)
    experiment = EXPERIMENT.model_copy(update={"benchmark": "SPY"})
    found = suspects_of(
        JUDGED, judged_books(JUDGED, closes_with(), HORIZON, 0.0, index), closes, experiment
    ).model_dump()
    (row,) = found["book_sessions"]
    assert row == {
        "book": "benchmark", "session": str(D[20]), "return": pytest.approx(0.4), "symbol": "SPY",
        "ratio": pytest.approx(1.4),
    }  # fmt: skip
    assert found["sentence"] == f"The figures rest on suspect prices: benchmark {D[20]} +0.4, behind it SPY"


def test_suspects_without_closes_say_nothing_of_moves() -> None:
    found = suspects_of(JUDGED, {"buy": book_of([0.3])}, None, EXPERIMENT).model_dump()
    assert (found["instruments"], found["moves"]) == (None, [])
    assert found["book_sessions"] == [
        {"book": "buy", "session": str(D[1]), "return": 0.3, "symbol": None, "ratio": None}
    ]


def book_of(returns: Sequence[float]) -> TrancheBook:
    count = len(returns)
    return TrancheBook(tuple(D[1 : 1 + count]), np.array(returns), np.zeros(count), np.ones(count))


def test_suspects_of_a_book_without_sessions_are_none() -> None:
    assert suspects_of(JUDGED, {"buy": book_of([])}, None, EXPERIMENT).sentence is None


def test_suspects_beyond_three_are_counted() -> None:
    panel = closes_with()
    every = pl.when(pl.col("session") >= D[20]).then(pl.col("close") * 30).otherwise("close")
    found = found_in(panel.with_columns(close=every))
    assert (found["moves_found"], len(found["moves"])) == (20, 20)
    further = sum(len(found[name]) for name in ("instruments_grown", "book_sessions", "figures"))
    assert found["sentence"].endswith(f" and {17 + further} more")


QUIET = suspects_of(JUDGED, {"buy": book_of([])}, None, EXPERIMENT)
SUSPICIOUS, IMPOSSIBLE = (
    QUIET.model_copy(
        update={"sentence": f"The figures rest on suspect prices: A 2018-01-02 {TIMES}{size}", "possible": possible}
    )
    for size, possible in ((5, True), (86, False))
)


def test_qualified_skill_names_suspect_prices_in_the_same_sentence() -> None:
    verdict = qualified(SKILL, SUSPICIOUS)
    assert verdict.skill
    assert verdict.sentence == (
        f"Evidence of skill, but the figures rest on suspect prices: A 2018-01-02 "
        f"{TIMES}5: the rank IC 0.1 (p 0.001)."
    )
    assert verdict.remarks == ("First.", f"The figures rest on suspect prices: A 2018-01-02 {TIMES}5. {REMEDY}.")


def test_qualified_skill_is_withheld_on_impossible_prices() -> None:
    verdict = qualified(SKILL, IMPOSSIBLE)
    assert not verdict.skill
    assert verdict.sentence == (
        f"No evidence of skill can be read from these figures: the figures rest on "
        f"suspect prices: A 2018-01-02 {TIMES}86. "
        "They would have said: the rank IC 0.1 (p 0.001)."
    )


def test_qualified_sentence_stays_without_skill_or_suspects() -> None:
    assert qualified(NO_SKILL, IMPOSSIBLE) == replace(
        NO_SKILL, remarks=(f"The figures rest on suspect prices: A 2018-01-02 {TIMES}86. {REMEDY}.",)
    )
    assert qualified(SKILL, QUIET) == SKILL


SURVIVORS = Survivors(2, 1, date(2018, 1, 1), date(2018, 3, 1), ())


def test_evaluation_names_suspects_and_is_strict_json() -> None:
    closes = closes_with(changed={20: 8600.0})
    books = judged_books(JUDGED, closes, HORIZON, 0.0)
    found = evaluate_judged(JUDGED, books, EXPERIMENT, "test set", Trials(), SURVIVORS, closes=closes).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["suspects"]["moves_found"] == 1
    assert found["suspects"]["sentence"] in found["verdict"]["remarks"][-1]


def test_impossible_prices_name_three_moves_and_count_the_others() -> None:
    many = closes_with().with_columns(
        close=pl.when(pl.col("session") >= D[20]).then(pl.col("close") * 30).otherwise("close")
    )
    said = impossible_prices(suspect_moves(many))
    assert said == (
        f"Prices that cannot be: S000 {D[20]} {TIMES}30, S001 {D[20]} {TIMES}30, S002 "
        f"{D[20]} {TIMES}30 and 17 more. {REMEDY}."
    )
    assert impossible_prices(suspect_moves(closes_with(changed={20: 8600.0}))) == (
        f"Prices that cannot be: S007 {D[20]} {TIMES}86 (back on {D[21]}). {REMEDY}."
    )
