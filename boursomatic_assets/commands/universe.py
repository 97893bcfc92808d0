"""The commands `boursomatic universe`: show the list of instruments, check it, start a list of your own."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands.opening import console, counted, print_csv

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from boursomatic_assets.providers.universe_check import Listing, UniverseCheck

universe = typer.Typer(
    help="The instruments to follow: show them, check a list, start a list of your own.\n\n"
    "Without a subcommand it shows where the list in use comes from, its contents, and its problems.",
)
members = typer.Typer(
    help="Past members of the universe. If any are known, models learn only from sessions of members.",
    no_args_is_help=True,
)
universe.add_typer(members, name="members")


@universe.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Show where the list in use comes from, its contents, and its problems."""
    if context.invoked_subcommand is not None:
        return
    from boursomatic_assets.providers.universe import SHIPPED, read_listing, universe_place
    from boursomatic_assets.providers.universe_check import check_universe, instruments_of
    from boursomatic_assets.settings import Settings

    place = universe_place(Settings.from_environment())
    listing = read_listing(place)
    checked = check_universe(listing)
    _print(f"Universe: {place}")
    if listing.rows:
        console.print(_counts_table(instruments_of(listing)))
    _conclude(listing, checked)
    if place == SHIPPED:
        console.print("A list of your own: [bold]boursomatic universe init[/bold]")


@universe.command()
def show(
    *,
    exchange: Annotated[str | None, typer.Option(help="Only those of an exchange, such as XPAR.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, in the form of the list itself.")] = False,
) -> None:
    """Show the instruments of the list in use.

    For example:

      boursomatic universe show --exchange XPAR

      boursomatic universe show --csv > mine.csv
    """
    if as_json and as_csv:
        message = "choose one of --json and --csv"
        raise typer.BadParameter(message)
    from boursomatic_assets.providers.universe import read_universe
    from boursomatic_assets.settings import Settings

    instruments = _on(read_universe(Settings.from_environment()), exchange)
    if as_json:
        print(json.dumps(instruments.to_dicts(), ensure_ascii=False, indent=2))  # noqa: T201 (for a program)
    elif as_csv:
        print_csv(instruments)
    else:
        console.print(_instruments_table(instruments))


def _on(instruments: "pl.DataFrame", exchange: str | None) -> "pl.DataFrame":
    """Keep the instruments of an exchange; all if none is named."""
    if exchange is None:
        return instruments
    chosen = instruments.filter(exchange=exchange.strip().upper())
    if chosen.is_empty():
        known = ", ".join(instruments["exchange"].unique().sort())
        message = f"no instrument is on {exchange!r}; there are: {known}"
        raise typer.BadParameter(message, param_hint="--exchange")
    return chosen


@universe.command()
def check(
    file: Annotated[
        str | None, typer.Argument(help="A list to check.", show_default="the list in use", metavar="[FILE]")
    ] = None,
) -> None:
    """Check a list: every problem with its line. Ends with 1 if the list cannot be used."""
    from pathlib import Path

    from boursomatic_assets.providers.universe import read_listing, universe_place
    from boursomatic_assets.providers.universe_check import check_universe
    from boursomatic_assets.settings import Settings

    place = universe_place(Settings.from_environment()) if file is None else Path(file).expanduser()
    listing = read_listing(place)
    _print(f"List: {place}")
    _conclude(listing, check_universe(listing))


def _conclude(listing: "Listing", checked: "UniverseCheck") -> None:
    """Print the problems; end with exit code 1 if the list cannot be used."""
    from boursomatic_assets.providers.universe_check import instruments_of

    for error in checked.errors:
        _print(f"error    {error}", style="red")
    for warning in checked.warnings:
        _print(f"warning  {warning}", style="yellow")
    if checked.errors:
        _print(f"The list cannot be used: {counted(len(checked.errors), 'error')}.", style="bold red")
        raise typer.Exit(1)
    exchanges = instruments_of(listing)["exchange"].n_unique()
    size = f"{counted(len(listing.rows), 'instrument')} on {counted(exchanges, 'exchange')}"
    _print(f"OK: {size}, {counted(len(checked.warnings), 'warning')}.", style="green")


@universe.command()
def init(
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing list; its edits are lost.")] = False,
) -> None:
    """Copy the shipped list to $BOURSOMATIC_HOME/universe.csv, to edit."""
    from boursomatic_assets.providers.universe import copy_shipped
    from boursomatic_assets.settings import Settings

    settings = Settings.from_environment()
    place = copy_shipped(settings, overwrite=force)
    _print(str(place))
    if settings.universe is not None:
        _print(f"Not in use as long as BOURSOMATIC_UNIVERSE names {settings.universe}", style="yellow")
    console.print("Edit it, then: [bold]boursomatic universe check[/bold]")


RELABEL = "Label the sessions again: [bold]boursomatic materialize --select labels+[/bold]"


@members.command("list")
def list_members() -> None:
    """Show all memberships."""
    from rich.markup import escape
    from rich.table import Table

    from boursomatic_assets.commands.opening import open_database
    from boursomatic_assets.storage.postgres.membership_table import read_members

    _, database = open_database()
    known = read_members(database)
    if known.is_empty():
        console.print("No membership is known: every instrument counts as a member at every session.")
        console.print("Enter memberships: [bold]boursomatic universe members import FILE.csv[/bold]")
        return
    table = Table("Symbol", "From", "Until")
    for symbol, first, until in known.iter_rows():
        table.add_row(escape(symbol), str(first), str(until or ""))
    console.print(table)
    _print(f"{counted(known.height, 'membership')} of {counted(known['symbol'].n_unique(), 'symbol')}.")


@members.command("import")
def import_members(
    file: Annotated[str, typer.Argument(help="CSV: symbol,member_from,member_until.", metavar="FILE.csv")],
) -> None:
    """Replace the memberships by those of a file.

    The file has a header and the columns symbol, member_from and member_until: the first date on which a symbol is
    a member, and the first on which it no longer is. member_until is empty for current members. A symbol that left
    and came back has two rows. If there is any membership, a symbol without one was never a member.

    For example:

      boursomatic universe members import sp500.csv
    """
    from pathlib import Path

    from boursomatic_assets.commands.opening import open_database
    from boursomatic_assets.providers.members import read_member_file
    from boursomatic_assets.storage.postgres.membership_table import replace_members

    listed = read_member_file(Path(file).expanduser())
    _, database = open_database()
    added, removed = replace_members(database, listed)
    _print(f"{counted(listed.height, 'membership')} known: {added} added, {removed} removed.")
    if added or removed:
        console.print(RELABEL)


@members.command("clear")
def clear_members() -> None:
    """Remove all memberships: every instrument counts as a member at every session again."""
    import polars as pl

    from boursomatic_assets.commands.opening import open_database
    from boursomatic_assets.core.market.membership import MEMBER_SCHEMA
    from boursomatic_assets.storage.postgres.membership_table import replace_members

    _, database = open_database()
    _, removed = replace_members(database, pl.DataFrame(schema=MEMBER_SCHEMA))
    _print(f"{counted(removed, 'membership')} removed.")
    if removed:
        console.print(RELABEL)


def _counts_table(instruments: "pl.DataFrame") -> "Table":
    """Instruments by sector and exchange, with totals."""
    from rich.markup import escape
    from rich.table import Column, Table

    exchanges = instruments["exchange"].fill_null("unknown")
    sectors = instruments["sector"].fill_null("unknown")
    columns = exchanges.unique(maintain_order=True).to_list()
    table = Table("Sector", *(Column(escape(heading), justify="right") for heading in (*columns, "All")))
    for sector in sectors.unique().sort():
        counts = [((exchanges == exchange) & (sectors == sector)).sum() for exchange in columns]
        table.add_row(escape(sector), *(str(count or "") for count in counts), str(sum(counts)))
    table.add_section()
    totals = [(exchanges == exchange).sum() for exchange in columns]
    table.add_row("All", *map(str, totals), str(sum(totals)))
    return table


def _instruments_table(instruments: "pl.DataFrame") -> "Table":
    from rich.markup import escape
    from rich.table import Column, Table

    headings = ("Symbol", "Exchange", "Name", "Sector", "Size", "P/E", "Currency")
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for row in instruments.iter_rows():
        table.add_row(*(escape(value or "") for value in row))
    return table


def _print(text: str, style: str | None = None) -> None:
    """Print a text without markup, highlighting and line breaks."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
