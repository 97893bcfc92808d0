"""A whole evaluation of rows that no model has learned from: figures, comparisons, curves and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.labels import closed_early
from boursomatic_assets.core.evaluation.book_figures import Trials, better_baseline, book_comparisons, book_figures
from boursomatic_assets.core.evaluation.curves import curves
from boursomatic_assets.core.evaluation.evaluation import Evaluation
from boursomatic_assets.core.evaluation.scores import scores
from boursomatic_assets.core.evaluation.suspects import qualified, suspects_of, with_benchmark
from boursomatic_assets.core.evaluation.verdict import conclude
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.portfolio.benchmark import benchmark_coverage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.survivors import Survivors
    from boursomatic_assets.core.portfolio.book import TrancheBook


def evaluate_judged(  # noqa: PLR0913, PLR0917 (what is measured, and by which rules)
    judged: pl.DataFrame,
    books: Mapping[str, TrancheBook],
    experiment: Experiment,
    scope: str,
    trials: Trials,
    survivors: Survivors,
    *,
    closes: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> Evaluation:
    """Evaluate judged rows and the books that follow their calls.

    Parameters
    ----------
    judged : DataFrame
        Predictions with the columns of the baselines and `call`.
    books : mapping of str to TrancheBook
        Of the same rows, as `judged_books` returns them.
    scope : str
        `test set` or `walk-forward`.
    trials : Trials
        Distinct experiments tried on these sessions, for the deflated Sharpe ratio.
    survivors : Survivors
        Of the panel that the rows come from.
    closes : DataFrame, optional
        `symbol`, `session`, `close` and optionally `explained`: searched for suspect moves.
    benchmark : DataFrame, optional
        `session`, `close` of the benchmark.

    Raises
    ------
    NoRowsError
        If no row was judged, a row lacks its outcome, or a book of the model is missing.
    """
    # Sums of the same numbers in another order differ in their last digits.
    judged = judged.sort(PANEL_KEY)
    scored = scores(judged, experiment)
    figures = [*scored.figures, *book_figures(books, trials, experiment)]
    sessions = judged["session"].n_unique()
    looked_at = closes if closes is None else with_benchmark(closes, experiment.benchmark, benchmark)
    suspects = suspects_of(judged, books, looked_at, experiment)
    verdict = qualified(conclude(figures, sessions / experiment.horizon, trials, survivors), suspects)
    return Evaluation.model_validate(
        {
            "scope": scope,
            "first_session": str(judged["session"].min()),
            "last_session": str(judged["session"].max()),
            "sessions": sessions,
            "rows": judged.height,
            "symbols": judged["symbol"].n_unique(),
            "closed_at_last_price": closed_early(judged),
            "horizon": experiment.horizon,
            "independent_periods": sessions / experiment.horizon,
            "figures": [figure.to_json() for figure in figures],
            "could_have_been_seen": {name: found.to_json() for name, found in scored.detections.items()},
            "survivors": survivors.to_json(),
            "comparisons": [*book_comparisons(books, experiment.horizon), *scored.comparisons],
            "superior_predictive_ability": better_baseline(books, experiment),
            "curves": curves(judged, scored.rank_ic, books),
            "trials": trials,
            "benchmark": benchmark_coverage(experiment.benchmark, benchmark, books["buy"].sessions),
            "suspects": suspects,
            "verdict": verdict,
        }
    )
