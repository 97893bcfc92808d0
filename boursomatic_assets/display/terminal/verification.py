"""What `boursomatic verify` shows: each part of a version computed again, and the bars that have changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from boursomatic_assets.core.registry.reproduction import ComparedPart, EnvironmentChange

MOST_SYMBOLS = 20
_DIGITS_SHOWN = 12


def parts_report(
    version: str, parts: Sequence[ComparedPart], changed: Sequence[EnvironmentChange]
) -> list[Table | str]:
    """A table of the parts, changes of code and packages since the training, and the conclusion."""
    columns = ("Part", "Computed again", Column("Where it differs", overflow="fold"))
    table = Table(*columns, title=f"Version {version}", title_justify="left")
    for part in parts:
        outcome = "[green]identical[/green]" if part.is_identical else "[red]differs[/red]"
        table.add_row(part.name, outcome, escape(_difference(part)))
    since = Table("Changed since the training", "", Column("Then -> now", overflow="fold"), title_justify="left")
    for change in changed:
        since.add_row(change.kind, change.name, f"{change.then or 'none'} -> {change.now or 'none'}")
    return [table, *([since] if changed else []), _conclusion(version, parts, changed)]


def _difference(part: ComparedPart) -> str:
    if part.is_identical:
        return ""
    digests = f"SHA-256 {part.recorded[:_DIGITS_SHOWN]} -> {part.found[:_DIGITS_SHOWN]}"
    return f"{part.first_difference} ({digests})" if part.first_difference else digests


def _conclusion(version: str, parts: Sequence[ComparedPart], changed: Sequence[EnvironmentChange]) -> str:
    different = [part.name for part in parts if not part.is_identical]
    if not different:
        return f"[bold green]Identical[/bold green]: {version} was made again from its snapshot, byte for byte."
    kinds = sorted({change.kind for change in changed})
    # The snapshot's digest was compared before: the data are the same.
    cause = (
        f"The data are the same; what has changed since: {' and '.join(kinds)}."
        if kinds
        else "Data, code and packages are the same: the version was altered before it was recorded, or the machine "
        "is another (processor, compiled libraries)."
    )
    return f"[bold red]Differs[/bold red]: {', '.join(different)}. {cause}"


def changes_report(version: str, labels: pl.DataFrame, by_symbol: pl.DataFrame) -> list[Table | str]:
    """A table of the symbols whose bars have changed, the most affected first, and the totals."""
    span = f"{labels['session'].min()!s} .. {labels['session'].max()!s}"
    if by_symbol.is_empty():
        return [f"[bold green]Unchanged[/bold green]: all {labels.height:,} rows of {version}, {span}."]
    headings = ("Rows", "Gone", "New", "Other close", "Other features only")
    counts_columns = (Column(heading, justify="right") for heading in headings)
    table = Table("Symbol", *counts_columns, "Sessions", "Close then -> now", title_justify="left")
    table.title = f"Changed since {version} was trained, {span}"
    for row in by_symbol.head(MOST_SYMBOLS).iter_rows(named=True):
        counts = (f"{row[name]:,}" for name in ("rows", "gone", "new", "close", "features"))
        table.add_row(row["symbol"], *counts, f"{row['first']} .. {row['last']}", _closes(row))
    report: list[Table | str] = [table]
    if by_symbol.height > MOST_SYMBOLS:
        report.append(f"... and {by_symbol.height - MOST_SYMBOLS:,} more symbols; all of them: --json")
    totals = by_symbol.select("rows", "gone", "new", "close", "features").sum().row(0, named=True)
    report.append(
        f"[bold yellow]Changed[/bold yellow]: {totals['rows']:,} rows (the snapshot has {labels.height:,}) in "
        f"{by_symbol.height:,} symbols (of {labels['symbol'].n_unique():,}): "
        f"{totals['gone']:,} gone, {totals['new']:,} new, {totals['close']:,} with another close, "
        f"{totals['features']:,} with the same close and other features (highs, lows, volumes or earlier bars)."
    )
    return report


def _closes(row: dict[str, Any]) -> str:
    if row["close_session"] is None:
        return ""
    return f"{row['close_then']:.6g} -> {row['close_now']:.6g} ({row['close_session']})"
