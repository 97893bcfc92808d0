"""Run a part of the graph in this process, and return its recorded metadata as plain values."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boursomatic_assets.commands.opening import console, open_database

if TYPE_CHECKING:
    from dagster import AssetKey, DagsterInstance, JobDefinition


def run_assets(
    keys: list[Any] | None, configuration: Mapping[str, Any], folds: int | None = None, *, verbose: bool
) -> dict[str, dict[str, Any]]:
    """Run the given assets, or all, in this process; returns each asset's metadata as plain values."""
    import dagster as dg

    from boursomatic_assets.core.dataset.experiment import WalkForward
    from boursomatic_assets.definitions import defs
    from boursomatic_assets.display.terminal.progress import run_progress
    from boursomatic_assets.storage.dagster.instance import open_instance, register_folds
    from boursomatic_assets.storage.dagster.run_launcher import PROCESS_TAG, own_process

    settings, database = open_database()
    job = defs.resolve_implicit_global_asset_job_def()
    run_id, level = str(uuid.uuid4()), "INFO" if verbose else "CRITICAL"
    run_config = {"resources": configuration, "loggers": {"console": {"config": {"log_level": level}}}}
    with open_instance(settings, database) as instance:
        trains_folds = keys is None or dg.AssetKey("walk_forward") in keys
        # One run trains all folds in turn, so that labels are read once.
        tags = register_folds(instance, folds or WalkForward().folds) if trains_folds or folds else {}
        if keys is not None and dg.AssetKey("model_version") in keys:
            _evaluate_missing_checks(job, instance, keys, run_config)
        steps = len(job.get_subset(asset_selection=set(keys)).nodes) if keys else len(job.nodes)
        with run_progress(console, instance, run_id, steps):
            result = job.execute_in_process(
                run_config=run_config,
                instance=instance,
                asset_selection=keys,
                run_id=run_id,
                # If this process is killed, the daemon sees that and no longer waits for the run.
                tags={PROCESS_TAG: own_process(), **(tags if trains_folds else {})},
            )
    return _metadata_by_asset(
        event.materialization for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"
    )


def _evaluate_missing_checks(
    job: "JobDefinition", instance: "DagsterInstance", keys: Sequence["AssetKey"], run_config: dict[str, Any]
) -> None:
    """Evaluate required checks of stored assets that a killed run left out.

    `keys` are the assets to materialize next; their own checks run with them. A check that fails stops
    `model_version` later, with its reason.
    """
    from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
    from boursomatic_assets.storage.dagster.instance import unmet_checks
    from boursomatic_assets.storage.dagster.run_launcher import PROCESS_TAG, own_process

    stored = {check: others for check, others in REQUIRED_CHECKS.items() if check.asset_key not in keys}
    missing = {check for check, unmet in unmet_checks(instance, None, stored).items() if not unmet.has_failed}
    if missing:
        subset = job.get_subset(asset_selection=set(), asset_check_selection=missing)
        subset.execute_in_process(
            run_config=run_config, instance=instance, raise_on_error=False, tags={PROCESS_TAG: own_process()}
        )


def require_benchmark(symbol: str, keys: list[Any] | None, platform: Mapping[str, Any]) -> None:
    """Stop before a run if neither the database nor the price source has the benchmark."""
    import dagster as dg

    from boursomatic_assets.services.reference_prices import require_known_benchmark
    from boursomatic_assets.storage.dagster.resources import PlatformResource

    ingests = keys is None or dg.AssetKey("price_bars") in keys
    _, database = open_database()
    require_known_benchmark(database, PlatformResource(**platform).settings(), symbol, ingests=ingests)


def _metadata_by_asset(materializations: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Metadata of each asset as plain values; for partitions, the sum of rows and the whole span."""
    import dagster as dg

    metadata: dict[str, dict[str, Any]] = {}
    for made in materializations:
        values = {
            name: entry.value
            for name, entry in made.metadata.items()
            if not isinstance(entry, dg.MarkdownMetadataValue)
        }
        name, before = made.asset_key.to_user_string(), metadata.get(made.asset_key.to_user_string())
        if before is not None and made.partition is not None:
            values["dagster/row_count"] += before["dagster/row_count"]
            values["first_session"] = min(values["first_session"], before["first_session"])
            values["last_session"] = max(values["last_session"], before["last_session"])
        metadata[name] = values
    return metadata
