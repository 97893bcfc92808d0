"""The commands `boursomatic adjustments`: list adjustments and unexplained jumps, add and remove adjustments."""

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from boursomatic_assets.commands.opening import console, open_database

adjustments = typer.Typer(
    help="Splits that a price source has not adjusted for: enter them, list unexplained jumps.",
    no_args_is_help=True,
)

Symbol = Annotated[str, typer.Argument(help="As `boursomatic universe` or the prices write it.")]
Session = Annotated[
    datetime, typer.Argument(formats=["%Y-%m-%d"], help="The first session at the new price, such as 2024-06-10.")
]
NEXT = "Compute everything downstream: [bold]boursomatic materialize --select features+[/bold]"


@adjustments.command("list")
def list_entries() -> None:
    """Show the adjustments, and the jumps that quarantine their symbol."""
    from boursomatic_assets.display.terminal.closing import adjustments_table
    from boursomatic_assets.storage.postgres.adjustments_table import list_adjustments, read_corrections

    _, database = open_database()
    entries = list_adjustments(database)
    with database.bulk() as cursor:
        moved = {(symbol, session): ratio for symbol, session, ratio, _ in read_corrections(cursor).jumps.rows()}
    if entries.is_empty():
        console.print("No adjustments, and no unexplained jump.")
        return
    console.print(adjustments_table(entries.rows(), moved))
    if entries["ratio"].null_count():
        console.print("Explain a jump: [bold]boursomatic adjustments add SYMBOL SESSION RATIO[/bold]")


@adjustments.command()
def add(
    symbol: Symbol,
    session: Session,
    ratio: Annotated[
        float,
        typer.Argument(help="Price after over price before: 0.5 for a two-for-one split, 1 for a real move."),
    ],
    note: Annotated[str | None, typer.Option(help="The reason, for later readers.")] = None,
) -> None:
    """Enter an adjustment: bars before the session are multiplied by the ratio whenever they are read.

    The adjustment must close a jump at exactly this session, else it is refused.

    For example:

      boursomatic adjustments add AAPL 2020-08-31 0.25 --note "four for one"
    """
    from boursomatic_assets.services.ingest.adjusting import enter_adjustment

    _, database = open_database()
    enter_adjustment(database, symbol, session.date(), ratio, note)
    done = "its move is accepted as real" if ratio == 1 else f"bars before it are multiplied by {ratio:g}"
    console.print(f"{escape(symbol)} {session:%Y-%m-%d}: {done}.")
    console.print(NEXT)


@adjustments.command()
def remove(symbol: Symbol, session: Session) -> None:
    """Remove an adjustment."""
    from boursomatic_assets.storage.postgres.adjustments_table import remove_adjustment

    _, database = open_database()
    if not remove_adjustment(database, symbol, session.date()):
        console.print(
            f"There is no adjustment of {escape(symbol)} on {session:%Y-%m-%d}: boursomatic adjustments list"
        )
        raise typer.Exit(1)
    console.print(f"{escape(symbol)}: the adjustment of {session:%Y-%m-%d} is removed.")
    console.print(NEXT)
