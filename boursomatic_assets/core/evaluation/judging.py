"""Everything measured on rows that no model had learned from: figures, comparisons, curves, and the conclusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.labels import CLASS_NAMES, closed_early
from boursomatic_assets.core.evaluation.book_figures import (
    Trials,
    better_baseline,
    book_comparisons,
    book_figures,
    cost_sweep,
    loss_comparisons,
)
from boursomatic_assets.core.evaluation.scores import scores
from boursomatic_assets.core.evaluation.session_sums import session_sums
from boursomatic_assets.core.evaluation.suspects import qualified, suspects_of, with_benchmark
from boursomatic_assets.core.evaluation.verdict import conclude
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.calibration import reliability_curve
from boursomatic_assets.core.measures.classification import confusion_counts, precision_by_decile
from boursomatic_assets.core.measures.detection import detections
from boursomatic_assets.core.measures.ranking import rank_ic_by_year, rank_ics
from boursomatic_assets.core.portfolio.benchmark import benchmark_coverage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.survivors import Survivors
    from boursomatic_assets.core.portfolio.book import TrancheBook


def evaluate_judged(  # noqa: PLR0913, PLR0917 (what is measured, by which rules, and what it may be taken for)
    judged: pl.DataFrame,
    books: Mapping[str, TrancheBook],
    experiment: Experiment,
    scope: str,
    trials: Trials,
    survivors: Survivors,
    *,
    closes: pl.DataFrame | None = None,
    benchmark: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Measure judged rows and the books that follow them.

    Parameters
    ----------
    judged : DataFrame
        Predictions with the columns of the baselines and `call`.
    books : mapping of str to TrancheBook
        As `judged_books` makes them of the same rows.
    experiment : Experiment
    scope : str
        Which rows these are: `test set` or `walk-forward`.
    trials : Trials
        Distinct experiments tried on these sessions, for the deflated Sharpe ratio.
    survivors : Survivors
        Of the panel that the rows come from.
    closes : DataFrame, optional
        `symbol`, `session`, `close` of the judged instruments, and `explained` as for `suspect_moves`: looked
        through for moves that cannot be.
    benchmark : DataFrame, optional
        `session`, `close` of the benchmark.

    Returns
    -------
    dict
        Strict JSON: `figures` (each with value, interval, p-value, value without skill and baseline),
        `could_have_been_seen` by the name of each rank IC, `survivors`, `comparisons`,
        `superior_predictive_ability`, `curves`, `trials`, `benchmark` (which sessions it covers), `suspects`
        (symbols and sessions behind implausible figures) and `verdict`, beside what was measured.
        `closed_at_last_price` counts judged rows whose instrument ended within the horizon, and names the symbols.
        What is not defined is None, and says why.

    Raises
    ------
    NoRowsError
        If no row was judged, one lacks its outcome, or a book of the model is missing.
    """
    # Sums of the same numbers in another order differ in their last digits.
    judged = judged.sort(PANEL_KEY)
    sums, coefficients = session_sums(judged), rank_ics(judged)
    figures = [*scores(judged, sums, coefficients, experiment), *book_figures(books, trials, experiment)]
    sessions = judged["session"].n_unique()
    looked_at = closes if closes is None else with_benchmark(closes, experiment.benchmark, benchmark)
    suspects = suspects_of(judged, books, looked_at, experiment)
    verdict = qualified(conclude(figures, sessions / experiment.horizon, trials, survivors), suspects)
    return {
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
        "could_have_been_seen": {
            name: found.to_json() for name, found in detections(coefficients, experiment.horizon).items()
        },
        "survivors": survivors.to_json(),
        "comparisons": [
            *book_comparisons(books, experiment.horizon),
            *loss_comparisons(sums, experiment.horizon),
        ],
        "superior_predictive_ability": better_baseline(books, experiment),
        "curves": _curves(judged, coefficients["rank_ic"], books),
        "trials": {"count": trials.count, "sharpe_variance": trials.sharpe_variance},
        "benchmark": benchmark_coverage(experiment.benchmark, benchmark, books["buy"].sessions),
        "suspects": suspects,
        "verdict": {"skill": verdict.skill, "sentence": verdict.sentence, "remarks": list(verdict.remarks)},
    }


def _curves(judged: pl.DataFrame, coefficients: pl.DataFrame, books: Mapping[str, TrancheBook]) -> dict[str, Any]:
    return {
        "books": {
            name: {"sessions": [str(day) for day in book.sessions], "returns": book.returns.tolist()}
            for name, book in books.items()
        },
        "rank_ic": {
            "sessions": coefficients["session"].cast(str).to_list(),
            "values": coefficients["rank_ic"].to_list(),
        },
        "rank_ic_by_year": rank_ic_by_year(coefficients).to_dicts(),
        "reliability": reliability_curve(judged).to_dicts(),
        "precision_by_decile": precision_by_decile(judged).to_dicts(),
        "cost_sweep": cost_sweep(books),
        "confusion": {"classes": list(CLASS_NAMES), "counts": confusion_counts(judged)},
    }


def p_values(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Every p-value that an evaluation reports, by what it belongs to."""
    figures = {figure["name"]: figure["p_value"] for figure in evaluation["figures"]}
    compared = {f"{row['measure']} over {row['baseline']}": row["p_value"] for row in evaluation["comparisons"]}
    searched = {"superior_predictive_ability": evaluation["superior_predictive_ability"]["p_value"]}
    return {name: p for name, p in (figures | compared | searched).items() if p is not None}
