"""The report: one page that says what a careful reader may conclude of the models, and on what grounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.chapter import Chapter
from boursomatic_assets.display.report.importance import ReportImportance, importance_charts
from boursomatic_assets.display.report.page import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from boursomatic_assets.storage.dagster.check_results import CheckResult

    Judgement = Mapping[str, Any]


@dataclass(frozen=True)
class ReportProofs:
    """What vouches for the figures.

    Attributes
    ----------
    checks : sequence of CheckResult
        Checks of this installation with their last results.
    runs : mapping or None
        What the proof runs of the product measured: `null`, `power`, `leaks`, `measured`.
    """

    checks: Sequence[CheckResult] = ()
    runs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ReportModel:
    """What was judged and how the page came about.

    Attributes
    ----------
    version : str or None
        None where no version is recorded of these models.
    params_hash : str
        SHA-256 of the experiment.
    experiment : mapping
    first_session, last_session : str or None
        Span of the labelled prices.
    run_id : str
    made_at : datetime
        UTC.
    code, packages : mapping of str to str
    no_walk_forward : str
        Why the walk-forward is not in the report, and what to do.
    """

    version: str | None
    params_hash: str
    experiment: Mapping[str, Any]
    first_session: str | None
    last_session: str | None
    run_id: str
    made_at: datetime
    code: Mapping[str, str | None] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    no_walk_forward: str = "There is no walk-forward yet. Run it: boursomatic materialize --select walk_forward+"


def report_page(
    evaluation: Judgement,
    walk_forward: Judgement | None,
    importance: ReportImportance,
    proofs: ReportProofs,
    model: ReportModel,
) -> str:
    """Write the report.

    Parameters
    ----------
    evaluation : mapping
        The asset `evaluation`: figures, comparisons, curves and verdict of the test set.
    walk_forward : mapping or None
        The asset `walk_forward_summary`, of the same shape with `folds`; shown first where it is there.
    importance : ReportImportance
    proofs : ReportProofs
    model : ReportModel

    Returns
    -------
    str
        A whole HTML document that loads nothing and works from a file.
    """
    chapters = [Chapter(scope) for scope in (walk_forward, evaluation) if scope]
    looked_at = importance_charts(importance)
    charts = [chart for chapter in chapters for chart in chapter.charts.values() if chart] + looked_at
    return render(
        "report.html",
        charts,
        chapters=chapters,
        has_walk_forward=bool(walk_forward),
        importance=looked_at,
        proofs=proofs,
        model=model,
        settings={name: _setting(value) for name, value in model.experiment.items()},
    )


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
