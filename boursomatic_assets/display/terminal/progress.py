"""Progress of a run in the terminal."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from boursomatic_assets.display.ui.jumps import TO_LOOK_AT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster import DagsterInstance, EventLogEntry
    from rich.console import Console

POLL_SECONDS = 0.3


@contextmanager
def run_progress(console: Console, instance: DagsterInstance, run_id: str, total: int) -> Iterator[None]:
    """Show a run's assets and checks as they finish: a thread follows its event log."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as progress:
        follower = threading.Thread(
            target=_follow, args=(progress, instance, run_id, total, ended), name="progress", daemon=True
        )
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def _follow(progress: Progress, instance: DagsterInstance, run_id: str, total: int, ended: threading.Event) -> None:
    task, cursor, last = progress.add_task("starting", total=total), None, False
    while not last:
        last = ended.wait(POLL_SECONDS)
        page = instance.get_records_for_run(run_id, cursor=cursor)
        cursor = page.cursor
        for record in page.records:
            _show_event(progress, task, record.event_log_entry)


def _show_event(progress: Progress, task: Any, entry: EventLogEntry) -> None:  # noqa: ANN401 (rich's TaskID)
    event = entry.dagster_event
    if event is None:
        # A step's message on its progress.
        if entry.step_key and entry.level == logging.INFO:
            progress.update(task, description=f"{entry.step_key}: {entry.user_message}")
        return
    if event.is_step_start:
        progress.update(task, description=str(event.step_key))
    elif event.event_type_value == "ASSET_MATERIALIZATION":
        rows = event.materialization.metadata.get("dagster/row_count")
        count = f" [dim]{rows.value:,} rows[/dim]" if rows else ""
        name = " ".join(filter(None, [event.asset_key.to_user_string(), event.partition]))  # type: ignore[union-attr]
        progress.console.print(f"[green]materialized[/green] {name}{count}")
    elif event.event_type_value == "ASSET_CHECK_EVALUATION":
        check = event.asset_check_evaluation_data
        # A passed check may still have something to look at.
        if not check.passed or TO_LOOK_AT in check.metadata:
            colour = "red" if check.severity.value == "ERROR" else "yellow"
            verdict = "check passed, to look at" if check.passed else "check failed"
            progress.console.print(
                f"[{colour}]{verdict}[/{colour}] {check.check_name} of {check.asset_key.to_user_string()}"
            )
            if check.description:
                progress.console.print(f"  {escape(check.description)}", soft_wrap=True)
    if event.is_step_success or event.is_step_failure or event.is_step_skipped:
        progress.advance(task)
