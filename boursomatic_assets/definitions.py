"""The code location: every asset, check, job and resource, assembled once."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector during the import, then exclude the imported objects, which stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


with _collector_paused():
    from boursomatic_assets.alerts.sensor import NOTICE_SENSORS
    from boursomatic_assets.assets import (
        baselines,
        drift,
        evaluation,
        features,
        labels,
        market_data,
        metrics,
        model_version,
        models,
        outcomes,
        portfolio,
        predictions,
        recommendations,
        report,
        splits,
        walk_forward,
    )
    from boursomatic_assets.automation.jobs import JOBS
    from boursomatic_assets.automation.retention import daily_prune, prune_expired
    from boursomatic_assets.automation.schedules import SCHEDULES
    from boursomatic_assets.automation.sensors import SENSORS
    from boursomatic_assets.storage.dagster.io_managers import (
        FoldIOManager,
        JsonIOManager,
        ModelIOManager,
        NoValueIOManager,
        ParquetIOManager,
    )
    from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
    from boursomatic_assets.storage.dagster.table_manager import TableIOManager

MODULES = [
    market_data, features, labels, splits, models, predictions, baselines, metrics, portfolio, evaluation,
    walk_forward, report, model_version, recommendations, outcomes, drift,
]  # fmt: skip

# Configured at launch, so that one change in the Launchpad reaches assets and IO managers alike.
_experiment = ExperimentResource.configure_at_launch()
_platform = PlatformResource.configure_at_launch()
_shared: dict[str, Any] = {"experiment": _experiment, "platform": _platform}

defs = dg.Definitions(
    assets=dg.with_source_code_references(dg.load_assets_from_modules(MODULES)),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=[*JOBS, prune_expired],
    schedules=[*SCHEDULES, daily_prune],
    sensors=[*SENSORS, *NOTICE_SENSORS],
    executor=dg.in_process_executor,
    resources={
        **_shared,
        "io_manager": NoValueIOManager(),
        "tables": TableIOManager(**_shared),
        "folds": FoldIOManager(**_shared),
        "panels": ParquetIOManager(**_shared),
        "models": ModelIOManager(**_shared),
        "figures": JsonIOManager(**_shared),
    },
)
