"""The fault tests in full: killed commands, trainings and daemons, and a silent receiver while bars arrive."""

from __future__ import annotations

import os
import platform
from contextlib import nullcontext
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.bar_events import BarStorm, bar_source, storm_of_bars
from benchmarks.homes import new_home
from benchmarks.killed_commands import KilledCommands, kill_commands
from benchmarks.killed_trainings import KilledTrainings, kill_trainings
from benchmarks.product import free_port, running_product
from benchmarks.silent_receiver import LateDelivery, SilentReceiver, webhook_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

Result: TypeAlias = KilledTrainings | KilledCommands | LateDelivery | BarStorm
# Low enough for several trainings.
RETRAIN_AFTER = 10


def run_faults(  # noqa: PLR0913 (the size of each test)
    console: Console, events: int, restarts: int, kills: int, *, commands: int = 0, folder: Path | None = None
) -> bool:
    """Run the fault tests in temporary homes, with the real daemon, webserver and PostgreSQL; print the results.

    `events` counts materializations of `price_bars`, `restarts` kills of the daemon meanwhile, `kills` killed
    trainings, `commands` other killed commands, which go on in a `folder` if one is given. 0 events, kills or
    commands skip that test. Returns whether every guarantee held.
    """
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        if kills:
            killed = progress.add_task("trainings killed", total=kills)
            results.append(kill_trainings(kills, lambda: progress.advance(killed)))
        if commands:
            interrupted = progress.add_task("commands killed", total=commands)
            with new_home() if folder is None else nullcontext(folder) as place:
                results.append(kill_commands(commands, place, lambda: progress.advance(interrupted)))
        if events:
            stormy = progress.add_task("bar events, and daemons killed", total=events + restarts)
            results += _storm(events, restarts, lambda: progress.advance(stormy))
    return print_faults(console, results)


def print_faults(console: Console, results: Sequence[Result]) -> bool:
    """Print a table per test, and the broken guarantees; returns whether there are none."""
    for storm in results:
        console.print(_tabulated(storm))
    broken = [what for storm in results for what in storm.broken]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    console.print(f"{datetime.now(UTC).date()}, {machine}.")
    for what in broken:
        console.print(f"[bold red]Broken:[/bold red] {what}", soft_wrap=True)
    if not broken:
        console.print("Every guarantee held.")
    return not broken


def _storm(events: int, restarts: int, advance: Callable[[], object]) -> tuple[LateDelivery, BarStorm]:
    """In one product: an undelivered message, the first training, then the bar events."""
    port = free_port()
    settings = {**webhook_at(port), "BOURSOMATIC_RETRAIN_AFTER": str(RETRAIN_AFTER)}
    with running_product(settings) as product, bar_source(product, events) as source:
        receiver = SilentReceiver(product, port)
        receiver.fail()
        source.bring()
        receiver.wait_until_tried()
        with receiver.listening():
            receiver.wait_for_failure()
            product.wait_for_jobs(features_of_new_bars=1, retrain=1, recommend_and_judge=1)
            receiver.wait_for_recovery()
            return receiver.found, storm_of_bars(product, source, events, restarts, advance)


def _tabulated(result: Result) -> Table:
    if isinstance(result, KilledTrainings):
        return _killed_table(result)
    if isinstance(result, KilledCommands):
        return _commands_table(result)
    return _told_table(result) if isinstance(result, LateDelivery) else _storm_table(result)


def _killed_table(result: KilledTrainings) -> Table:
    return _table(
        f"{result.kills} trainings killed with kill -9",
        {
            "a whole training, seconds": f"{result.seconds:.1f}",
            "of these from the first file of its bundle on": f"{result.writing_seconds:.1f}",
            "looks meanwhile; active versions seen": f"{result.looks:,}; {_listed(result.active_counts)}",
            "killed after their version was recorded": str(result.recorded),
            "killed with a partial bundle, under a name that nobody reads": str(result.left_behind),
            "bundles in the end, each verified after each kill": str(result.bundles),
            "the next training": "succeeded" if result.healed else "failed",
        },
    )


def _commands_table(result: KilledCommands) -> Table:
    return _table(
        f"{result.kills.total()} commands killed with kill -9, and run again",
        {
            **{f"killed: {kind}": f"{count}" for kind, count in result.kills.items()},
            "of these with the embedded server": str(result.servers),
            "had ended before": str(result.begun - result.kills.total()),
            "something lost, twice or half done, or the next command failed": str(len(result.broken)),
        },
    )


def _told_table(result: LateDelivery) -> Table:
    return _table(
        "A run failed while the webhook's receiver was down",
        {
            "attempts before it was there": str(result.attempts),
            "seconds until the message arrived then": f"{result.seconds_to_arrive:.1f}",
            "messages of the failure; of the recovery": f"{result.failures}; {result.recoveries}",
        },
    )


def _storm_table(result: BarStorm) -> Table:
    back = result.seconds_to_return
    return _table(
        f"{result.events} bar events, the daemon killed {result.restarts} times",
        {
            "events that brought a session; without features in the end": f"{result.with_news}; {result.uncovered}",
            **{f"runs of {job}": str(count) for job, count in sorted(result.runs.items())},
            "second attempts, of runs whose process had died": str(result.retried),
            "trainings twice for the same data; two at once": f"{result.duplicate_trainings}; "
            f"{result.trainings_at_once}",
            "looks meanwhile; active versions seen": f"{result.looks:,}; {_listed(result.active_counts)}",
            "sensors stuck; runs without an end": f"{len(result.stuck_sensors)}; {result.unfinished_runs}",
            "seconds from a kill to UI and daemon being back": f"median {median(back):.0f}, at most {max(back):.0f}"
            if back
            else "-",
            "seconds from the first event to quiet": f"{result.seconds:,.0f}",
        },
    )


def _table(title: str, figures: dict[str, str]) -> Table:
    table = Table("what", title=title, title_justify="left")
    table.add_column("found", justify="right")
    for row in figures.items():
        table.add_row(*row)
    return table


def _listed(counts: set[int]) -> str:
    return f"always {min(counts)}" if len(counts) == 1 else ", ".join(map(str, sorted(counts)))
