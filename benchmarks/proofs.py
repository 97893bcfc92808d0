"""The proofs in full: many simulated panels, evaluated in parallel processes and stored for the report."""

from __future__ import annotations

import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from upath import UPath

from boursomatic_assets.core.evaluation.proofs import (
    NOTHING_TO_FIND,
    SOMETHING_TO_FIND,
    NullCalibration,
    Power,
    SimulatedEvaluation,
    judge_simulated,
    null_calibration,
    power,
)
from boursomatic_assets.core.registry.bundle import strict_json
from boursomatic_assets.storage.artifacts.bundles import code_revision
from boursomatic_assets.storage.artifacts.files import write_whole
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.dagster.recorded_files import PROOFS, record_file
from boursomatic_assets.storage.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from boursomatic_assets.core.market.simulation import SimulatedMarket
    from boursomatic_assets.settings import Settings

NULL_PANELS, SIGNAL_PANELS = 200, 20
FILE = f"{PROOFS}.json"
# One thread per process, since panels are evaluated in parallel. Results do not depend on it.
_ALONE = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def run_proofs(console: Console, settings: Settings, null_panels: int, signal_panels: int) -> None:
    """Evaluate simulated panels, print the results, and store them as `proofs.json` among the artifacts.

    0 panels skip that kind. Seeds count up from 0.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    # Opened before the long part: the report shows only what the database recorded.
    database = Database.open(settings)
    results: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        if null_panels:
            task = progress.add_task("panels without a signal", total=null_panels)
            null = null_calibration(list(_advancing(progress, task, judge_panels(NOTHING_TO_FIND, null_panels))))
            console.print(_null_table(null))
            results["null"] = asdict(null)
        if signal_panels:
            task = progress.add_task("panels with a planted signal", total=signal_panels)
            signal = power(list(_advancing(progress, task, judge_panels(SOMETHING_TO_FIND, signal_panels))))
            console.print(_power_line(signal))
            results["power"] = asdict(signal)
    path, content = UPath(settings.artifacts_dir) / FILE, strict_json({**results, **_circumstances()})
    write_whole(path, content)
    with open_instance(settings, database) as instance:
        record_file(instance, PROOFS, path, content)
    console.print(f"Stored for the report: {path}", soft_wrap=True)


def _advancing(
    progress: Progress, task: TaskID, judged: Iterator[SimulatedEvaluation]
) -> Iterator[SimulatedEvaluation]:
    for evaluation in judged:
        progress.advance(task)
        yield evaluation


def judge_panels(
    market: SimulatedMarket, panels: int, processes: int | None = None
) -> Iterator[SimulatedEvaluation]:
    """Evaluate panels of a market in parallel, in the order of their seeds 0, 1, 2 and so on."""
    workers = min(panels, processes or os.cpu_count() or 1)
    # Not forked: after a training, a fork would wait for OpenMP's threads forever.
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in _ALONE}
    os.environ.update(_ALONE)
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            yield from pool.map(partial(_judge, market), range(panels))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _judge(market: SimulatedMarket, seed: int) -> SimulatedEvaluation:
    # Curves of many panels would fill the memory.
    return judge_simulated(market, seed, threads=1).model_copy(update={"curves": {}})


def _circumstances() -> dict[str, Any]:
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "code": code_revision(),
    }


def _null_table(null: NullCalibration) -> Table:
    title = f"{null.panels} panels without a signal: share in which each p-value was below 0.05"
    table = Table("p-value of", title=title, title_justify="left")
    table.add_column("Share", justify="right")
    for name, share in null.rejected.items():
        table.add_row(name, f"{share:.3f}")
    table.add_section()
    table.add_row("mean BUY lift at equal volatility (1 without skill)", f"{null.matched_lift:.3f}")
    table.add_row("share reported as no evidence of skill", f"{null.no_evidence:.3f}")
    return table


def _power_line(measured: Power) -> str:
    return (
        f"{measured.panels} panels with a planted signal of rank IC {measured.planted_rank_ic:.3f} (the forecasts "
        f"reach {measured.rank_ic:.3f}): reported as skill in {measured.found:.0%}"
    )
