"""What the UI shows of the walk-forward: each fold, and the record of skill over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.dataset.labels import closed_early
from boursomatic_assets.core.models.walk_forward import fold_figures
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.evaluation import conclusion_metadata
from boursomatic_assets.display.ui.fold_pictures import fold_figures_picture, folds_picture
from boursomatic_assets.display.ui.metadata import column_lineage, markdown_table, numeric_metadata, panel_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.evaluation import Evaluation
    from boursomatic_assets.core.models.walk_forward import FoldResult


def fold_metadata(result: FoldResult, experiment: Experiment) -> dict[str, Any]:
    """Metadata of one fold."""
    facts = result.facts.to_json()
    return {
        **panel_metadata(result.panel),
        **column_lineage("walk_forward", experiment.features),
        **{name: facts[name] for name in ("train_first", "train_last", "train_last_label_end", "train_rows")},
        "rows_closed_at_their_last_price": closed_early(result.panel)["rows"],
        **numeric_metadata(fold_figures(result.panel, "predicted_label")),
        "fold_in_time": dg.MetadataValue.md(embedded(folds_picture([facts]), "Trained on and predicted")),
    }


def summary_metadata(evaluation: Evaluation, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metadata of the asset `walk_forward_summary`."""
    return {
        **conclusion_metadata(evaluation, "figures_with_intervals"),
        "folds_in_time": dg.MetadataValue.md(embedded(folds_picture(folds), "Folds: trained on and predicted")),
        "figures_per_fold": dg.MetadataValue.md(embedded(fold_figures_picture(folds), "Rank IC and lift per fold")),
        "folds": dg.MetadataValue.md(markdown_table(pl.DataFrame(folds, infer_schema_length=None))),
        **numeric_metadata(evaluation.values),
    }
