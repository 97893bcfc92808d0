"""The curves and tables of an evaluation, as strict JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.book_figures import cost_sweep
from boursomatic_assets.core.measures.calibration import reliability_curve
from boursomatic_assets.core.measures.classification import confusion_counts, precision_by_decile
from boursomatic_assets.core.measures.ranking import rank_ic_by_year

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from boursomatic_assets.core.portfolio.book import TrancheBook


def curves(judged: pl.DataFrame, rank_ic: pl.DataFrame, books: Mapping[str, TrancheBook]) -> dict[str, Any]:
    """Daily returns of the books, rank IC by session and year, reliability, deciles, costs and confusion."""
    return {
        "books": {
            name: {"sessions": [str(day) for day in book.sessions], "returns": book.returns.tolist()}
            for name, book in books.items()
        },
        "rank_ic": {"sessions": rank_ic["session"].cast(str).to_list(), "values": rank_ic["rank_ic"].to_list()},
        "rank_ic_by_year": rank_ic_by_year(rank_ic).to_dicts(),
        "reliability": reliability_curve(judged).to_dicts(),
        "precision_by_decile": precision_by_decile(judged).to_dicts(),
        "cost_sweep": cost_sweep(books),
        "confusion": {"classes": list(CLASS_NAMES), "counts": confusion_counts(judged)},
    }
