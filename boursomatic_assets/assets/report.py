"""The report: one HTML page with the verdict on the models, readable offline."""

from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import dagster as dg
import polars as pl
from upath import UPath

from boursomatic_assets import assets
from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.models.contributions import feature_contributions, spread_rows
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.display.report.importance import ReportImportance
from boursomatic_assets.display.report.writing import ReportProofs, judged_model, report_page
from boursomatic_assets.storage.artifacts.files import browser_url, write_whole
from boursomatic_assets.storage.artifacts.optional_figures import read_if_current, read_json
from boursomatic_assets.storage.dagster.check_results import CheckResult, latest_results
from boursomatic_assets.storage.dagster.recorded_files import PROOFS, recorded_file
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

FOLDER, FILE = "reports", "report.html"
WALK_FORWARD = "walk_forward_summary"


@dg.asset(
    group_name="report",
    kinds={"plotly", "html"},
    owners=OWNERS,
    code_version=code_version(__name__, "report", shows=True),
    # Both are optional: the report says which one is missing.
    deps=[WALK_FORWARD, "model_version"],
)
def report(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    context: dg.AssetExecutionContext,
    evaluation: dict[str, Any],
    feature_importance: pl.DataFrame,
    classifier: FittedModel,
    test_set: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.MaterializeResult[None]:
    """One HTML page with the verdict on the models, every figure, chart, proof and definition.

    It opens from a file, offline. Each version keeps its report; `reports/report.html` is always the newest.
    """
    settings, root, run_id = experiment.value(), platform.artifacts(), context.run.run_id
    walk_forward, missing = read_if_current(
        root / "assets" / f"{WALK_FORWARD}.json",
        settings.part_for(WALK_FORWARD),
        partial(recorded_file, context.instance, run_id, WALK_FORWARD),
    )
    sample = feature_contributions(classifier, spread_rows(test_set))
    importance = ReportImportance(feature_importance, sample)
    proofs = ReportProofs(_checks(context.instance), _proof_runs(root, context.instance))
    model = judged_model(context.instance, run_id, settings, missing)
    page = report_page(evaluation, walk_forward, importance, proofs, model).encode()
    path = _write(root / FOLDER, model.version, page)
    record = walk_forward or evaluation
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(path)),
            **_link(path),
            "conclusion": str((record.get("verdict") or {}).get("sentence") or "no verdict"),
            "concluded_from": str(record.get("scope") or "test set"),
            **({"walk_forward": model.no_walk_forward} if walk_forward is None else {}),
            "version": model.version or "none recorded of these models",
            "bytes": len(page),
        },
        data_version=dg.DataVersion(sha256(page)),
    )


def _proof_runs(root: UPath, instance: dg.DagsterInstance) -> dict[str, Any] | None:
    return read_json(root / f"{PROOFS}.json", partial(recorded_file, instance, None, PROOFS))


def _write(folder: UPath, version: str | None, page: bytes) -> UPath:
    """Write the page as the newest, and once more under its version, where it stays."""
    path = folder / FILE
    if version:
        write_whole(folder / version / FILE, page)
    write_whole(path, page)
    return folder / version / FILE if version else path


def _link(path: UPath) -> dict[str, dg.MetadataValue[Any]]:
    address = browser_url(path)
    return {} if address is None else {"open": dg.MetadataValue.url(address)}


def _checks(instance: dg.DagsterInstance) -> list[CheckResult]:
    """The results of all checks: a run knows only those of its own assets."""
    modules = [import_module(module.name) for module in iter_modules(assets.__path__, f"{assets.__name__}.")]
    checks = dg.load_asset_checks_from_modules(modules)
    return latest_results(instance, [spec for check in checks for spec in check.check_specs])
