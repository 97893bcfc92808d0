"""The table of what has expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.services.retention.prune import Expired

MEGABYTE = 1e6


def expired_table(found: Sequence[Expired], *, removed: bool) -> Table:
    """Each kind of record with the time it is kept, the number of expired ones, and their size."""
    table = Table("kind", "kept", box=None)
    table.add_column("removed" if removed else "expired", justify="right")
    table.add_column("MB", justify="right")
    for each in found:
        table.add_row(each.what, each.kept, f"{each.count:,}", f"{each.bytes / MEGABYTE:,.1f}")
    total = sum(each.bytes for each in found)
    table.add_section()
    table.add_row("all", "", f"{sum(each.count for each in found):,}", f"{total / MEGABYTE:,.1f}")
    return table
