"""Metadata of the walk-forward: each fold, the summary over all of them, and pictures."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.labels import closed_early
from boursomatic_assets.core.models.walk_forward import fold_figures
from boursomatic_assets.display.ui.canvas import (
    CLASSIFIER_COLOUR,
    FAINT,
    REGRESSOR_COLOUR,
    TEXT,
    WIDTH,
    blank_figure,
    draw_legend,
    frame_axes,
    name_rows,
    set_title,
    to_png,
    use_date_axis,
)
from boursomatic_assets.display.ui.evaluation import conclusion_metadata
from boursomatic_assets.display.ui.metadata import column_lineage, numeric_metadata, panel_metadata, picture, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.evaluation.evaluation import Evaluation
    from boursomatic_assets.core.models.walk_forward import FoldResult

_PARTS = (("train", CLASSIFIER_COLOUR, "trained on"), ("test", REGRESSOR_COLOUR, "predicted; before it purged"))
BAR_HEIGHT = 0.66
MOST_TICKS = 5


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


def summary_metadata(evaluation: Evaluation, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metadata of the asset `walk_forward_summary`."""
    return {
        **conclusion_metadata(evaluation, "figures_with_intervals"),
        "folds_in_time": picture(folds_picture(folds), "Folds: trained on and predicted"),
        "figures_per_fold": picture(fold_figures_picture(folds), "Rank IC and lift per fold"),
        "folds": table(folds),
        **numeric_metadata(evaluation.values),
    }


def folds_picture(folds: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw each fold on one time line: its training sessions, the purged gap, and the sessions that it predicts.

    Each fold has `fold` and the ISO dates `train_first`, `train_last`, `test_first`, `test_last`.
    """
    figure = blank_figure(WIDTH, 90 + 26 * len(folds))
    axes = figure.add_subplot()
    frame_axes(axes)
    for row, fold in enumerate(folds):
        for part, colour, meaning in _PARTS:
            first: Any = date.fromisoformat(fold[f"{part}_first"])
            width = date.fromisoformat(fold[f"{part}_last"]) + timedelta(days=1) - first
            label = None if row else meaning
            axes.barh(row, width, left=first, height=BAR_HEIGHT, color=colour, label=label)
    name_rows(axes, [f"fold {fold['fold']}" for fold in folds])
    use_date_axis(axes, most_ticks=8)
    draw_legend(figure, len(_PARTS))
    return to_png(figure)


def fold_figures_picture(folds: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw each fold's mean rank IC and matched BUY lift beside their values without skill. None is undefined."""
    figure = blank_figure(WIDTH, 90 + 26 * len(folds))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_bars(left, folds, ("rank_ic", 0.0), "mean rank IC (0 is no skill)")
    _draw_bars(right, folds, ("matched_lift_buy", 1.0), "BUY lift at equal volatility (1 is no skill)")
    name_rows(left, [f"fold {fold['fold']}" for fold in folds])
    return to_png(figure)


def _draw_bars(axes: Axes, folds: Sequence[Mapping[str, Any]], figure: tuple[str, float], title: str) -> None:
    frame_axes(axes)
    name, no_skill = figure
    for row, fold in enumerate(folds):
        value = fold[name]
        if value is None:
            axes.text(no_skill, row, "undefined", va="center", color=FAINT, fontsize=TEXT)
        else:
            axes.barh(row, value - no_skill, left=no_skill, height=BAR_HEIGHT, color=CLASSIFIER_COLOUR)
    axes.locator_params(axis="x", nbins=MOST_TICKS)
    axes.axvline(no_skill, color=FAINT, linewidth=1)
    set_title(axes, title)
