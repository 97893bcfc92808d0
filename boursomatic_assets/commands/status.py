"""The command `boursomatic status`: a health check for people and for monitoring programs."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from boursomatic_assets.commands.opening import console, open_database
from boursomatic_assets.errors import BoursomaticError


def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, an object.")] = False
) -> None:
    """Check that bars, model, recommendations and daemon are up to date. Ends with 1 if not.

    A watchdog can run it once a day or more often: it changes nothing.

    For example:

      boursomatic status --json || mail -s "boursomatic" me@example.org
    """
    from boursomatic_assets.alerts.recording import open_failures
    from boursomatic_assets.services.status import read_status
    from boursomatic_assets.storage.dagster.instance import open_instance

    try:
        settings, database = open_database()
        failures = [f"{failure.asset}: {failure.cause}" for failure in open_failures(database)]
        with open_instance(settings, database) as instance:
            found = read_status(database, instance, settings, datetime.now(UTC), failures)
    except BoursomaticError as error:
        if as_json:
            # Exactly when a watchdog reads it.
            typer.echo(json.dumps({"is_healthy": False, "problems": [str(error)]}, indent=2, ensure_ascii=False))
            raise typer.Exit(1) from None
        raise
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        for feed in found.feeds:
            console.print(
                f"{feed.calendar}: {feed.arrived} of {feed.expected} symbols have a bar of {feed.session}",
                highlight=False,
            )
        console.print(f"Active model: {found.model or 'none'}", highlight=False)
        console.print(f"Recommendations: {found.recommended_session or 'none'}", highlight=False)
        for problem in found.problems:
            console.print(f"[bold red]Problem:[/bold red] {escape(problem)}", soft_wrap=True, highlight=False)
        console.print("All is well." if found.is_healthy else f"Problems: {len(found.problems)}")
    if not found.is_healthy:
        raise typer.Exit(1)
