"""Figures of the books that follow the calls, beside those of books that need no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.market.bars import require_rows
from boursomatic_assets.core.measures.classification import mean_of
from boursomatic_assets.core.measures.figures import Figure, finite
from boursomatic_assets.core.measures.inference import UNDEFINED, MeanTest, diebold_mariano, overlap_test
from boursomatic_assets.core.measures.performance import (
    annual_return,
    annual_volatility,
    deflated_sharpe_ratio,
    hit_rate,
    lo_sharpe_ratio,
    max_drawdown,
    probabilistic_sharpe_ratio,
    sharpe_interval,
    sharpe_ratio,
    total_return,
)
from boursomatic_assets.core.measures.resampling import superior_predictive_ability
from boursomatic_assets.core.portfolio.books import require_books

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.portfolio.book import TrancheBook

# Books of the model's own calls, each with its title and the book beside it.
MODEL_BOOKS = {"buy": ("BUY book", "equal_weight"), "long_short": ("long-short book", "")}
BOOK_TITLES = {
    "equal_weight": "equal weight",
    "equal_weight_matched": "equal weight in the same sessions",
    "volatility": "volatility-only classifier",
    "momentum": "12-1 momentum",
    "benchmark": "benchmark index",
}
# Books of as many names in as many sessions, so that none gains by being invested more.
SEARCHED = ("equal_weight_matched", "volatility", "momentum")
COST_SWEEP = (0.0, 5.0, 10.0, 20.0, 50.0)
EMPTY = "the book holds nothing, its daily return never varies, or there are too few sessions"
WITHOUT_P = (
    "no p-value: volatility alone foretells how far prices move, and a model with more to fit is noisier where "
    "there is nothing to learn"
)
_PLAIN = {
    "lo_sharpe_ratio": ("Sharpe corrected for autocorrelation", "number"),
    "total_return": ("Total return", "percent"),
    "annual_return": ("Annual return", "percent"),
    "annual_volatility": ("Annual volatility", "percent"),
    "max_drawdown": ("Deepest drawdown", "percent"),
    "hit_rate": ("Sessions with a gain", "percent"),
    "turnover": ("Turnover a session", "percent"),
    "exposure": ("Exposure", "percent"),
}


@dataclass(frozen=True)
class Trials:
    """Distinct experiments tried on the same sessions: `count`, and variance of their Sharpe ratios per session."""

    count: int = 1
    sharpe_variance: float = 0.0


def book_figures(books: Mapping[str, TrancheBook], trials: Trials, experiment: Experiment) -> list[Figure]:
    """Figures of the model's two books, named `buy_…` and `long_short_…`."""
    require_books(books, tuple(MODEL_BOOKS))
    return [
        figure
        for key, (title, beside) in MODEL_BOOKS.items()
        for figure in _figures_of(key, title, books[key], books.get(beside), trials, experiment)
    ]


def _figures_of(  # noqa: PLR0913, PLR0917 (a book, what it is called, and what it is judged by)
    key: str, title: str, book: TrancheBook, beside: TrancheBook | None, trials: Trials, experiment: Experiment
) -> list[Figure]:
    returns, horizon = book.returns, experiment.horizon
    low, high = sharpe_interval(returns, horizon, experiment.bootstrap_draws, experiment.seed)
    tested = overlap_test(returns, 1, horizon - 1) if len(returns) > horizon else UNDEFINED
    own = book_values(book, horizon)
    other = book_values(beside, horizon) if beside else dict.fromkeys(own, math.nan)
    what = BOOK_TITLES["equal_weight"] if beside else ""
    probable = probabilistic_sharpe_ratio(returns)
    deflated = deflated_sharpe_ratio(returns, trials.count, trials.sharpe_variance)
    named = "probability of a Sharpe above"
    return [
        Figure(
            f"{key}_sharpe_ratio", f"Sharpe, {title}, net", "portfolio", own["sharpe_ratio"], low, high,
            tested.p_value, no_skill=0.0, baseline=other["sharpe_ratio"], baseline_is=what, why_undefined=EMPTY,
        ),
        Figure(
            f"{key}_newey_west_t", f"Newey-West t, {title}", "portfolio", tested.statistic, no_skill=0.0,
            why_undefined=EMPTY,
        ),
        Figure(
            f"{key}_probabilistic_sharpe", f"{title}: {named} 0", "portfolio", probable, p_value=1 - probable,
            no_skill=0.5, unit="percent", why_undefined=EMPTY,
        ),
        Figure(
            f"{key}_deflated_sharpe", f"{title}: {named} the best of {trials.count} by luck", "portfolio", deflated,
            p_value=1 - deflated, no_skill=0.5, unit="percent", why_undefined=EMPTY,
        ),
        *(
            Figure(
                f"{key}_{name}", f"{label}, {title}", "portfolio", own[name], unit=unit, baseline=other[name],
                baseline_is=what, why_undefined=EMPTY,
            )
            for name, (label, unit) in _PLAIN.items()
        ),
    ]  # fmt: skip


def book_values(book: TrancheBook, lags: int) -> dict[str, float]:
    """Return and risk of a book, net of cost; NaN where undefined. `lags` as in `lo_sharpe_ratio`."""
    returns = book.returns
    return {
        "sharpe_ratio": sharpe_ratio(returns),
        "lo_sharpe_ratio": lo_sharpe_ratio(returns, lags),
        "mean_return": mean_of(returns),
        "total_return": total_return(returns),
        "annual_return": annual_return(returns),
        "annual_volatility": annual_volatility(returns),
        "max_drawdown": max_drawdown(returns),
        "hit_rate": hit_rate(returns, book.exposure),
        "turnover": mean_of(book.turnover),
        "exposure": mean_of(book.exposure),
    }


def aligned_returns(books: Mapping[str, TrancheBook]) -> dict[str, np.ndarray]:
    """Daily returns of several books over the sessions that all of them have, shape (n_sessions,) each."""
    own = [set(book.sessions) for book in books.values()]
    shared = set.intersection(*own) if own else set()
    return {name: book.returns[[session in shared for session in book.sessions]] for name, book in books.items()}


def book_comparisons(books: Mapping[str, TrancheBook], horizon: int) -> list[dict[str, Any]]:
    """Diebold-Mariano tests of the BUY book's daily returns against each book that needs no model.

    Each over the sessions that both books have; `note` says how many, where they are fewer than the BUY book's.
    """
    require_books(books, ("buy",))
    return [
        _against(books["buy"], books[name], title, horizon) for name, title in BOOK_TITLES.items() if name in books
    ]


def _against(own: TrancheBook, other: TrancheBook, title: str, horizon: int) -> dict[str, Any]:
    returns = aligned_returns({"own": own, "other": other})
    test = diebold_mariano(-returns["own"], -returns["other"], 1, horizon - 1)
    shared, whole = len(returns["own"]), len(own.sessions)
    few = None if shared == whole else f"{title}: compared over {shared} of {whole} sessions"
    return _comparison(title, "daily return", test) | {"note": few}


def loss_comparisons(sessions: pl.DataFrame, horizon: int) -> list[dict[str, Any]]:
    """Diebold-Mariano intervals of log loss and accuracy against baselines; `sessions` are `session_sums`."""
    require_rows(sessions, "comparisons need judged sessions", ("rows",))
    majority = max(
        (name for name in sessions.columns if name.startswith("actual_")), key=lambda name: sessions[name].sum()
    )
    pairs = (
        ("volatility-only classifier", "log loss", "log_loss_model", "log_loss_volatility", 1),
        ("training prior", "log loss", "log_loss_model", "log_loss_prior", 1),
        ("most frequent class", "accuracy", "correct", majority, -1),
        ("training prior", "accuracy", "correct", "correct_prior", -1),
    )
    found = []
    for title, measure, own, other, sign in pairs:
        test = UNDEFINED
        if not sessions[other].null_count():
            losses, without = (sign * (sessions[name] / sessions["rows"]).to_numpy() for name in (own, other))
            test = diebold_mariano(losses, without, horizon, horizon - 1)
        found.append(_comparison(title, measure, test) | {"p_value": None, "note": WITHOUT_P})
    return found


def _comparison(baseline: str, measure: str, test: MeanTest) -> dict[str, Any]:
    return {
        "baseline": baseline,
        "measure": measure,
        "difference": finite(test.value),
        "low": finite(test.low),
        "high": finite(test.high),
        "statistic": finite(test.statistic),
        "p_value": finite(test.p_value),
        "note": None,
    }


def better_baseline(books: Mapping[str, TrancheBook], experiment: Experiment) -> dict[str, Any]:
    """Test whether any book without a model earns more than the BUY book: `p_value`, `against`, `null`."""
    require_books(books, ("buy",))
    returns = aligned_returns({name: books[name] for name in ("buy", *SEARCHED) if name in books})
    own = returns.pop("buy")
    p_value = math.nan
    if len(own) and np.ptp(own) > 0:
        settings = experiment.horizon, experiment.bootstrap_draws, experiment.seed
        p_value = superior_predictive_ability(own, returns, *settings)
    return {
        "p_value": finite(p_value),
        "against": [BOOK_TITLES[name] for name in returns],
        "null": "none of these books earns more than the BUY book",
    }


def cost_sweep(books: Mapping[str, TrancheBook]) -> list[dict[str, Any]]:
    """Sharpe ratio and annual return of the model's books at several costs, in basis points a side."""
    require_books(books, tuple(MODEL_BOOKS))
    nets = {(name, cost): books[name].net(cost) for name in MODEL_BOOKS for cost in COST_SWEEP}
    figures = {"sharpe": sharpe_ratio, "annual_return": annual_return}
    return [
        {"book": name, "cost_bps": cost, **{key: finite(figure(net)) for key, figure in figures.items()}}
        for (name, cost), net in nets.items()
    ]
