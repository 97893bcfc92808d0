"""Which models the report judges, from what Dagster recorded of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boursomatic_assets.display.report.writing import ReportModel
from boursomatic_assets.errors import MissingArtifactError
from boursomatic_assets.storage.artifacts.bundles import code_revision, package_versions
from boursomatic_assets.storage.dagster.instance import outdated_inputs, recorded_metadata

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from boursomatic_assets.core.dataset.experiment import Experiment


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
