"""Metadata of the walk-forward: each fold, and the summary over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.labels import closed_early
from boursomatic_assets.core.measures.figures import values_of
from boursomatic_assets.core.models.walk_forward import fold_figures
from boursomatic_assets.display.ui.evaluation import conclusion_metadata
from boursomatic_assets.display.ui.fold_pictures import fold_figures_picture, folds_picture
from boursomatic_assets.display.ui.metadata import column_lineage, numeric_metadata, panel_metadata, picture, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.dataset.experiment import Experiment
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
        "fold_in_time": picture(folds_picture([facts]), "Trained on and predicted"),
    }


def summary_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of the asset `walk_forward_summary`."""
    folds = value["folds"]
    return {
        **conclusion_metadata(value, "figures_with_intervals"),
        "folds_in_time": picture(folds_picture(folds), "Folds: trained on and predicted"),
        "figures_per_fold": picture(fold_figures_picture(folds), "Rank IC and lift per fold"),
        "folds": table(folds),
        **numeric_metadata(values_of(value)),
    }
