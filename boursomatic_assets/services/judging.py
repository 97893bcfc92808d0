"""Evaluation of judged rows with the trials, survivors, prices and benchmark of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.judging import evaluate_judged
from boursomatic_assets.core.evaluation.price_moves import suspect_moves
from boursomatic_assets.core.portfolio.book import closes_of_books
from boursomatic_assets.core.portfolio.books import judged_books
from boursomatic_assets.services.reference_prices import judged_closes, read_benchmark
from boursomatic_assets.storage.postgres.panel_survivors import panel_survivors
from boursomatic_assets.storage.postgres.trials_table import count_trials

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.evaluation import Evaluation
    from boursomatic_assets.core.evaluation.price_moves import Move
    from boursomatic_assets.core.portfolio.book import TrancheBook
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database


def evaluate_stored(  # noqa: PLR0913 (what is measured, by which rules, and what it is held against)
    database: Database,
    judged: pl.DataFrame,
    books: Mapping[str, TrancheBook],
    experiment: Experiment,
    scope: str,
    *,
    labels: pl.DataFrame,
    benchmark: pl.DataFrame | None,
) -> Evaluation:
    """Evaluate judged rows and their books as `evaluate_judged` does.

    Trials, closes and the survivors of `labels` come from the database.
    """
    tried = count_trials(database, judged["session"].min(), judged["session"].max())  # type: ignore[arg-type]
    return evaluate_judged(
        judged,
        books,
        experiment,
        scope,
        Trials(max(tried.count, 1), tried.sharpe_variance),
        panel_survivors(database, labels),
        closes=judged_closes(database, judged),
        benchmark=benchmark,
    )


def evaluate_walk_forward(  # noqa: PLR0913, PLR0917 (what is measured, and what it is held against)
    database: Database,
    settings: Settings,
    called: pl.DataFrame,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    experiment: Experiment,
) -> Evaluation:
    """Evaluate the calls of all folds, and the portfolios that trade on them.

    `called` is the result of `sequential_calls`; `price_bars` has `close` and `exchange`.
    """
    closes = closes_of_books(price_bars, labels, called["session"].min())  # type: ignore[arg-type]
    benchmark = read_benchmark(database, settings, experiment.benchmark)
    books = judged_books(called, closes, experiment.horizon, experiment.cost_bps, benchmark)
    return evaluate_stored(database, called, books, experiment, "walk-forward", labels=labels, benchmark=benchmark)


def suspect_prices(database: Database, labels: pl.DataFrame) -> list[Move]:
    """Moves of the labels' closes that no listed company makes, or hardly any."""
    return suspect_moves(judged_closes(database, labels))
