"""The commands `boursomatic models`: which versions were recorded."""

from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, open_database

models = typer.Typer(help="Model versions that were recorded.", no_args_is_help=True)


@models.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest versions.")] = 20,
) -> None:
    """Show recorded model versions, the newest first."""
    from boursomatic_assets.display.terminal import versions_table
    from boursomatic_assets.storage.model_table import list_versions

    _, database = open_database()
    rows = list_versions(database, limit)
    if rows:
        console.print(versions_table(rows))
        for row in filter(lambda row: row.is_active, rows):
            console.print(f"Active bundle: {row.model_path}", soft_wrap=True)
    else:
        console.print("No model version yet: [bold]boursomatic materialize[/bold]")
