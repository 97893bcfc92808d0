"""The command `boursomatic trace`: one recommendation followed back to the bars, each step computed anew."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from boursomatic_assets.commands.opening import console, errors, open_database


def trace(
    wanted: Annotated[
        str, typer.Argument(metavar="ID|SYMBOL", help="A recommendation's id, or a symbol as it is listed.")
    ],
    *,
    session: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With a symbol: of this session.", show_default="the active one"),
    ] = None,
    profile: Annotated[
        Literal["conservative", "moderate", "aggressive"] | None,
        typer.Option(help="With a symbol: the recommendation for this profile.", show_default="moderate"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole tree as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file, too.", dir_okay=False)] = None,
) -> None:
    """Follow a recommendation to its source and compute each step anew: model, features, bars, adjustments.

    Ends with 0 where every step is as it was when the recommendation was made, to the last bit; else with 1.

    For example:

      boursomatic trace AAPL

      boursomatic trace AAPL --session 2024-05-31 --profile aggressive --html trace.html
    """
    from boursomatic_assets.display.report.trace_page import trace_page, trace_report
    from boursomatic_assets.services.tracing.recommendation import choose_recommendation, trace_row
    from boursomatic_assets.storage.dagster.instance import open_instance

    settings, database = open_database()
    day = None if session is None else session.date()
    row = choose_recommendation(database, wanted, day, profile)
    with errors.status(f"Tracing {row['symbol']}"), open_instance(settings, database) as instance:
        found = trace_row(database, instance, row)
    if html is not None:
        _write(html, trace_page(found))
    if as_json:
        # Unwrapped and without colours, for a program to read.
        typer.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        for part in trace_report(found):
            console.print(part, soft_wrap=isinstance(part, str))
        if html is not None:
            console.print(f"Page: {html}", soft_wrap=True, markup=False, highlight=False)
    if not found.matches:
        raise typer.Exit(1)


def _write(path: Path, page: bytes) -> None:
    from boursomatic_assets.errors import ArtifactWriteError

    try:
        path.write_bytes(page)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}. Choose another file: --html FILE"
        raise ArtifactWriteError(message) from error
