from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from arch.bootstrap import SPA

from boursomatic_assets.core.evaluation.book_figures import (
    BOOK_TITLES,
    COST_SWEEP,
    EMPTY,
    Trials,
    aligned_returns,
    better_baseline,
    book_comparisons,
    book_figures,
    cost_sweep,
    loss_comparisons,
)
from boursomatic_assets.core.evaluation.session_sums import session_sums
from boursomatic_assets.core.measures.performance import (
    annual_return,
    deflated_sharpe_ratio,
    probabilistic_sharpe_ratio,
    sharpe_interval,
    sharpe_ratio,
)
from boursomatic_assets.core.portfolio.book import TrancheBook
from boursomatic_assets_tests.support.judged import EXPERIMENT, HORIZON, judged_panel
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.core.measures.figures import Figure

DAYS = weekdays(400)


def book(returns: Sequence[float] | np.ndarray, first: int = 0, turnover: float = 0.0) -> TrancheBook:
    """A book over consecutive sessions, always invested, at 10 basis points a side."""
    gross = np.asarray(returns, dtype=np.float64)
    count = len(gross)
    sessions = tuple(DAYS[first : first + count])
    return TrancheBook(sessions, gross, np.full(count, turnover), np.ones(count), cost_bps=10.0)


def random_book(seed: int, count: int = 60, mean: float = 0.0, **shape: Any) -> TrancheBook:  # noqa: ANN401 (as `book`)
    return book(np.random.default_rng(seed).normal(mean, 0.01, count), **shape)


BOOKS = {
    "buy": random_book(1, turnover=0.2),
    "long_short": random_book(2, turnover=0.4),
    "equal_weight": random_book(3, turnover=0.1),
    "equal_weight_matched": random_book(4),
    "volatility": random_book(5),
    "momentum": random_book(6),
    "benchmark": random_book(7),
}
# A book that makes no call stays in cash; one over no sessions has not even that.
CASH, NOWHERE = book([0.0] * 60), book([])


def figures_of(books: dict[str, TrancheBook], trials: Trials = Trials()) -> dict[str, Figure]:  # noqa: B008 (frozen)
    return {figure.name: figure for figure in book_figures(books, trials, EXPERIMENT)}


FIGURES = figures_of(BOOKS)


def test_book_figures_are_the_same_of_both_books() -> None:
    names = [
        *("sharpe_ratio", "newey_west_t", "probabilistic_sharpe", "deflated_sharpe", "lo_sharpe_ratio"),
        *("total_return", "annual_return", "annual_volatility", "max_drawdown", "hit_rate", "turnover"),
        "exposure",
    ]
    assert list(FIGURES) == [f"{key}_{name}" for key in ("buy", "long_short") for name in names]
    assert {figure.group for figure in FIGURES.values()} == {"portfolio"}


def test_book_figures_are_net_of_cost() -> None:
    # 0.2 traded each session at 10 basis points: 0.0002 less
    net = BOOKS["buy"].gross - 0.0002
    sharpe = FIGURES["buy_sharpe_ratio"]
    assert sharpe.value == pytest.approx(net.mean() / net.std(ddof=1) * math.sqrt(252), rel=1e-12)
    interval = sharpe_interval(net, HORIZON, EXPERIMENT.bootstrap_draws, EXPERIMENT.seed)
    assert (sharpe.low, sharpe.high) == pytest.approx(interval)


def test_book_figures_t_is_that_of_statsmodels() -> None:
    options = {"maxlags": HORIZON - 1, "use_correction": False}
    for key in ("buy", "long_short"):
        returns = BOOKS[key].returns
        theirs = sm.OLS(returns, np.ones(len(returns))).fit(cov_type="HAC", cov_kwds=options)
        assert FIGURES[f"{key}_newey_west_t"].value == pytest.approx(theirs.tvalues[0], rel=1e-9)


def test_book_figures_have_equal_weight_beside_the_buy_book_only() -> None:
    assert FIGURES["buy_sharpe_ratio"].baseline == pytest.approx(sharpe_ratio(BOOKS["equal_weight"].returns))
    assert FIGURES["buy_turnover"].baseline == pytest.approx(0.1)
    assert FIGURES["buy_sharpe_ratio"].baseline_is == FIGURES["buy_turnover"].baseline_is == "equal weight"
    others = [figure for name, figure in FIGURES.items() if name.startswith("long_short")]
    assert all(math.isnan(figure.baseline) and not figure.baseline_is for figure in others)


def test_book_figures_probabilities_and_p_values_add_up_to_one() -> None:
    returns, trials = BOOKS["buy"].returns, Trials(7, 0.01)
    figures = figures_of(BOOKS, trials)
    probable, deflated = figures["buy_probabilistic_sharpe"], figures["buy_deflated_sharpe"]
    assert probable.value == probabilistic_sharpe_ratio(returns)
    assert deflated.value == deflated_sharpe_ratio(returns, 7, 0.01) < probable.value
    assert (probable.p_value, deflated.p_value) == (1 - probable.value, 1 - deflated.value)
    assert deflated.title == "BUY book: probability of a Sharpe above the best of 7 by luck"
    # The best of one trial is that trial.
    assert FIGURES["buy_deflated_sharpe"].value == FIGURES["buy_probabilistic_sharpe"].value


def test_book_figures_of_a_hand_made_book() -> None:
    # Half lost, a quarter won, nothing, doubled: 0.5 x 1.25 x 2 = 1.25
    figures = figures_of({"buy": book([-0.5, 0.25, 0.0, 1.0]), "long_short": CASH})
    assert figures["buy_total_return"].value == pytest.approx(0.25)
    assert figures["buy_annual_return"].value == pytest.approx(1.25**63 - 1)
    assert figures["buy_max_drawdown"].value == pytest.approx(-0.5)
    assert figures["buy_hit_rate"].value == 0.5
    assert figures["buy_exposure"].value == 1.0
    # mean 3/16; deviations -11, 1, -3, 13 sixteenths: squares 121 + 1 + 9 + 169 = 300, over 3: the root is 10
    assert figures["buy_annual_volatility"].value == pytest.approx(10 / 16 * math.sqrt(252))
    assert figures["buy_sharpe_ratio"].value == pytest.approx(3 / 10 * math.sqrt(252))
    # Fewer sessions than the horizon of five: a value, and nothing that claims to be a test.
    assert math.isnan(figures["buy_sharpe_ratio"].p_value)
    assert math.isnan(figures["buy_sharpe_ratio"].low)
    assert math.isnan(figures["buy_newey_west_t"].value)


@pytest.mark.parametrize("empty", [CASH, NOWHERE])
def test_book_figures_of_an_empty_book_say_why(empty: TrancheBook) -> None:
    figures = figures_of({"buy": empty, "long_short": empty, "equal_weight": empty})
    stored = [figure.to_json() for figure in figures.values()]
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    for name in ("sharpe_ratio", "newey_west_t", "probabilistic_sharpe", "deflated_sharpe", "lo_sharpe_ratio"):
        undefined = figures[f"buy_{name}"].to_json()
        assert undefined["value"] is None
        assert undefined["p_value"] is None
        assert undefined["why_undefined"] == EMPTY


def test_aligned_returns_are_over_shared_sessions() -> None:
    # sessions 2, 3 and 0, 1, 2: only 2 is in both, and no zero stands for the others
    returns = aligned_returns({"late": book([0.1, 0.2], first=2), "early": book([0.3, 0.4, 0.5])})
    assert {name: values.tolist() for name, values in returns.items()} == {"late": [0.1], "early": [0.5]}
    assert aligned_returns({"buy": NOWHERE})["buy"].tolist() == []
    assert aligned_returns({}) == {}


def test_book_comparisons_begin_with_a_later_benchmark() -> None:
    whole, late = random_book(8), random_book(9)
    short = replace(
        late, sessions=late.sessions[20:], gross=late.gross[20:], turnover=late.turnover[20:],
        exposure=late.exposure[20:],
    )  # fmt: skip
    (row,) = book_comparisons({"buy": whole, "benchmark": short}, HORIZON)
    assert row["difference"] == pytest.approx((whole.returns[20:] - short.returns).mean(), abs=1e-15)
    assert row["note"] == "benchmark index: compared over 40 of 60 sessions"


def test_book_comparisons_with_an_empty_benchmark_are_undefined() -> None:
    (row,) = book_comparisons({"buy": BOOKS["buy"], "benchmark": NOWHERE}, HORIZON)
    assert [row[name] for name in ("difference", "low", "high", "statistic", "p_value")] == [None] * 5
    assert row["note"] == "benchmark index: compared over 0 of 60 sessions"


def test_book_comparisons_are_the_buy_book_less_each_other() -> None:
    rows = book_comparisons(BOOKS, HORIZON)
    assert [row["baseline"] for row in rows] == list(BOOK_TITLES.values())
    for name, row in zip(BOOK_TITLES, rows, strict=True):
        ahead = BOOKS["buy"].returns - BOOKS[name].returns
        options = {"maxlags": HORIZON - 1, "use_correction": False}
        theirs = sm.OLS(ahead, np.ones(60)).fit(cov_type="HAC", cov_kwds=options)
        assert row["difference"] == pytest.approx(ahead.mean(), abs=1e-12)
        assert row["statistic"] == pytest.approx(theirs.tvalues[0], rel=1e-9)
        assert row["low"] < row["difference"] < row["high"]
        assert 0 < row["p_value"] < 1
        assert (row["measure"], row["note"]) == ("daily return", None)


def test_book_comparisons_give_a_small_p_value_to_a_book_ahead() -> None:
    ahead = {
        "buy": random_book(8, mean=0.01),
        "equal_weight": random_book(9),
        "momentum": random_book(10, mean=0.03),
    }
    better, worse = book_comparisons(ahead, HORIZON)
    # 0.01 ahead, with noise of sqrt(2) x 0.01 / sqrt(60) = 0.0018; and 0.02 behind
    assert better["p_value"] < 0.01
    assert worse["p_value"] > 0.99


def test_book_comparisons_leave_out_absent_books() -> None:
    rows = book_comparisons({"buy": BOOKS["buy"], "momentum": BOOKS["momentum"]}, HORIZON)
    assert [row["baseline"] for row in rows] == ["12-1 momentum"]


def test_book_comparisons_of_a_book_with_itself_are_undefined() -> None:
    (row,) = book_comparisons({"buy": CASH, "equal_weight": CASH}, HORIZON)
    assert [row[name] for name in ("difference", "low", "high", "statistic", "p_value")] == [None] * 5


JUDGED = judged_panel(symbols=10, sessions=30, seed=11)


def test_loss_comparisons_are_by_session_without_p_value() -> None:
    sums = session_sums(JUDGED)
    rows = loss_comparisons(sums, HORIZON)
    assert [(row["baseline"], row["measure"]) for row in rows] == [
        ("volatility-only classifier", "log loss"),
        ("training prior", "log loss"),
        ("most frequent class", "accuracy"),
        ("training prior", "accuracy"),
    ]
    per_row = {
        name: float((sums[name] / sums["rows"]).to_numpy().mean()) for name in sums.columns if name != "session"
    }
    frequent = max(("actual_BUY", "actual_HOLD", "actual_SELL"), key=lambda name: per_row[name])
    # Positive where the model is better: a lower loss, a higher accuracy.
    expected = [
        per_row["log_loss_volatility"] - per_row["log_loss_model"],
        per_row["log_loss_prior"] - per_row["log_loss_model"],
        per_row["correct"] - per_row[frequent],
        per_row["correct"] - per_row["correct_prior"],
    ]
    assert [row["difference"] for row in rows] == pytest.approx(expected, abs=1e-12)
    assert all(row["p_value"] is None and row["note"].startswith("no p-value") for row in rows)
    assert all(row["low"] < row["difference"] < row["high"] for row in rows)


def test_loss_comparisons_without_a_volatility_classifier() -> None:
    absent = [pl.lit(None, pl.Float64).alias(f"volatility_probability_{name}") for name in ("buy", "hold", "sell")]
    first, *others = loss_comparisons(session_sums(JUDGED.with_columns(absent)), HORIZON)
    assert first["difference"] is None
    assert first["note"]
    assert others == loss_comparisons(session_sums(JUDGED), HORIZON)[1:]


def test_better_baseline_searches_books_as_much_invested() -> None:
    found = better_baseline(BOOKS, EXPERIMENT)
    assert found["against"] == ["equal weight in the same sessions", "volatility-only classifier", "12-1 momentum"]
    assert found["null"] == "none of these books earns more than the BUY book"
    others = np.column_stack([BOOKS[name].returns for name in ("equal_weight_matched", "volatility", "momentum")])
    theirs = SPA(
        -BOOKS["buy"].returns, -others, block_size=HORIZON, reps=EXPERIMENT.bootstrap_draws, seed=EXPERIMENT.seed
    )
    theirs.compute()
    assert found["p_value"] == pytest.approx(theirs.pvalues["consistent"], abs=1e-9)


@pytest.mark.parametrize("empty", [CASH, NOWHERE])
def test_better_baseline_of_an_empty_book_is_undefined(empty: TrancheBook) -> None:
    assert better_baseline({**BOOKS, "buy": empty}, EXPERIMENT)["p_value"] is None


def test_better_baseline_of_a_book_alone_is_undefined() -> None:
    found = better_baseline({"buy": BOOKS["buy"]}, EXPERIMENT)
    assert (found["p_value"], found["against"]) == (None, [])
    nowhere = better_baseline({"buy": NOWHERE, "momentum": NOWHERE}, EXPERIMENT)
    assert (nowhere["p_value"], nowhere["against"]) == (None, ["12-1 momentum"])


def test_cost_sweep_takes_each_cost_off_the_gross_return() -> None:
    rows = cost_sweep(BOOKS)
    assert [(row["book"], row["cost_bps"]) for row in rows] == [
        (name, cost) for name in ("buy", "long_short") for cost in (0, 5, 10, 20, 50)
    ]
    assert COST_SWEEP == (0, 5, 10, 20, 50)
    for row in rows:
        traded = {"buy": 0.2, "long_short": 0.4}[row["book"]]
        net = BOOKS[row["book"]].gross - traded * row["cost_bps"] / 10_000
        assert row["sharpe"] == pytest.approx(sharpe_ratio(net), rel=1e-9)
        assert row["annual_return"] == pytest.approx(annual_return(net), rel=1e-9)
    # Every cost is a loss.
    returns = [row["annual_return"] for row in rows[:5]]
    assert returns == sorted(returns, reverse=True)


@pytest.mark.parametrize(("empty", "annual"), [(CASH, 0.0), (NOWHERE, None)])
def test_cost_sweep_of_an_empty_book(empty: TrancheBook, annual: float | None) -> None:
    rows = cost_sweep({"buy": empty, "long_short": empty})
    assert [row["sharpe"] for row in rows] == [None] * 10
    assert [row["annual_return"] for row in rows] == [annual] * 10
