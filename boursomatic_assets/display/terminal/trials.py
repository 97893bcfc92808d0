"""What `boursomatic experiments list` shows: experiments and how they differ from the default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.measures.performance import SESSIONS_PER_YEAR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.storage.postgres.trials_table import Trial


def trials_report(trials: Sequence[Trial], distinct: int) -> list[Table | str]:
    """A table of the trials, and a sentence on their number.

    `distinct` counts the experiments whose test sessions overlap those of the first trial.
    """
    headings = ("Accuracy", "Matched lift", "Sharpe", "Rank IC")
    numbers = (Column(heading, justify="right", min_width=7) for heading in headings)
    # The first cell has several lines, so that the table fits 80 columns.
    table = Table(Column("Experiment, first tried (UTC)", overflow="fold"), *numbers, show_lines=True)
    table.title, table.title_justify = "Experiments (figures of the test set)", "left"
    for trial in trials:
        sharpe = None if trial.sharpe is None else trial.sharpe * math.sqrt(SESSIONS_PER_YEAR)
        figures = (trial.accuracy, trial.matched_lift, sharpe, trial.rank_ic)
        tried = f"{trial.created_at:%Y-%m-%d %H:%M}" if trial.created_at else ""
        lines = (
            f"{trial.params_hash[:8]} {tried}".strip(),
            f"{trial.first_session} .. {trial.last_session}",
            trial.version or "no version",
            *(f"{name}: {value}" for name, value in other_than_default(trial.experiment).items()),
        )
        shown = ("none" if figure is None else f"{figure:.3f}" for figure in figures)
        table.add_row(escape("\n".join(lines)), *shown)
    tried = "1 distinct experiment was" if distinct == 1 else f"{distinct} distinct experiments were"
    return [table, f"{tried} tried on overlapping test sessions: the deflated Sharpe ratio counts them all."]


def other_than_default(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Values of an experiment that are not the default, by name, such as `classifier.n_estimators`.

    Fields that this version does not have are ignored: nobody chose their value.
    """
    return _differences(experiment, Experiment().model_dump(mode="json"), "")


def _differences(values: Mapping[str, Any], default: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    different: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(default.get(name), dict):
            different |= _differences(value, default[name], f"{prefix}{name}.")
        elif name in default and value != default[name]:
            different[f"{prefix}{name}"] = value
    return different
