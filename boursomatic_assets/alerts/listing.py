"""The table of messages that the command line shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from boursomatic_assets.alerts.messages import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.alerts.outbox import Notice


def notices_table(notices: Sequence[Notice]) -> Table:
    """Messages with asset, cause and state of delivery."""
    folded = (Column(heading, overflow="fold") for heading in ("About", "Cause", "Delivery"))
    table = Table(Column("At", no_wrap=True), *folded, title="Messages about failures (times in UTC)")
    for notice in notices:
        details = notice.message.details
        cause = str(details["cause"]) if "cause" in details else "; ".join(details["causes"])
        table.add_row(f"{notice.created_at:%Y-%m-%d %H:%M}", _about(notice), escape(cause), _delivery(notice))
    return table


def _about(notice: Notice) -> str:
    asset = escape(notice.message.asset)
    if notice.message.kind is Kind.RECOVERY:
        return f"{asset} [green]succeeded again[/green]"
    times = f" {notice.times} times" if notice.times > 1 else ""
    over = "" if notice.recovered_at is None else f", over since {notice.recovered_at:%Y-%m-%d %H:%M}"
    return f"{asset} [red]failed[/red]{times}{over}"


def _delivery(notice: Notice) -> str:
    waiting = [name for name, moment in notice.delivered.items() if moment is None]
    taken = [name for name in notice.delivered if name not in waiting]
    lines = [f"{', '.join(taken)}: delivered"] if taken else []
    if waiting and notice.next_attempt_at is not None:
        after = f" after {notice.attempts} attempts" if notice.attempts else ""
        lines.append(f"[yellow]{', '.join(waiting)}: waits{after}[/yellow]")
    if waiting and notice.last_error:
        lines.append(escape(notice.last_error))
    return "\n".join(lines)
