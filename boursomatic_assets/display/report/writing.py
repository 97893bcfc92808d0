"""The report: one page with the verdict on the models and the figures behind it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.chapter import chapter_of
from boursomatic_assets.display.report.importance import ReportImportance, importance_charts
from boursomatic_assets.display.report.page import render
from boursomatic_assets.errors import MissingArtifactError
from boursomatic_assets.storage.artifacts.bundles import code_revision, package_versions
from boursomatic_assets.storage.dagster.instance import outdated_inputs, recorded_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import DagsterInstance

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.storage.dagster.check_results import CheckResult

    Judgement = Mapping[str, Any]


@dataclass(frozen=True)
class ReportProofs:
    """Evidence for the figures: checks with their last results, and measurements of the proof runs."""

    checks: Sequence[CheckResult] = ()
    runs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ReportModel:
    """The judged models. `version` is None if no version of these models is recorded.

    `first_session` and `last_session` span the labelled prices. `no_walk_forward` says why the page has no
    walk-forward, and what to do.
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
    """The report as an HTML document that loads nothing.

    `evaluation` and `walk_forward` are the values of the assets `evaluation` and `walk_forward_summary`. The
    walk-forward comes first if it is given.
    """
    chapters = [chapter_of(scope) for scope in (walk_forward, evaluation) if scope]
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


def judged_model(instance: DagsterInstance, run_id: str, experiment: Experiment, missing: str) -> ReportModel:
    """Describe the judged models: data, code, and the version if these very models are recorded as one.

    `missing` says why there is no walk-forward.
    """
    version, span = None, {}
    with suppress(MissingArtifactError):
        span = recorded_metadata(instance, run_id, "labels")
    with suppress(MissingArtifactError):
        recorded = recorded_metadata(instance, run_id, "model_version")
        changed = outdated_inputs(instance, run_id, {"model_version": ["classifier", "regressor"]})
        version = None if changed else str(recorded["version"])
    return ReportModel(
        version=version,
        params_hash=experiment.params_hash,
        experiment=experiment.model_dump(mode="json"),
        first_session=span.get("first_session"),
        last_session=span.get("last_session"),
        run_id=run_id,
        made_at=datetime.now(UTC),
        code=code_revision(),
        packages=package_versions(),
        no_walk_forward=(
            f"The walk-forward {missing}: the figures below rest on one short test set. "
            "Make it: boursomatic materialize --select walk_forward+"
        ),
    )
