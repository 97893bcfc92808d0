"""The command `boursomatic trace`: one recommendation traced back to its bars, each step computed again."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, errors, open_database, print_json
from boursomatic_assets.commands.options import ProfileName


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
        ProfileName | None,
        typer.Option(help="With a symbol: the recommendation for this profile.", show_default="moderate"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole tree as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page to this file.", dir_okay=False)] = None,
) -> None:
    """Trace a recommendation to its source and compute each step again: model, features, bars, adjustments.

    Ends with 0 if every step is as it was when the recommendation was made, to the last bit; else with 1.

    For example:

      boursomatic trace AAPL

      boursomatic trace AAPL --session 2024-05-31 --profile aggressive --html trace.html
    """
    from boursomatic_assets.display.report.trace_page import trace_page, trace_report
    from boursomatic_assets.errors import ArtifactWriteError
    from boursomatic_assets.services.tracing.recommendation import choose_recommendation, trace_row
    from boursomatic_assets.storage.dagster.instance import open_instance

    settings, database = open_database()
    day = None if session is None else session.date()
    row = choose_recommendation(database, wanted, day, profile)
    with errors.status(f"Tracing {row['symbol']}"), open_instance(settings, database) as instance:
        traced = trace_row(database, instance, row)
    if html is not None:
        try:
            html.write_bytes(trace_page(traced))
        except OSError as error:
            message = f"{html} cannot be written: {error.strerror}. Choose another file: --html FILE"
            raise ArtifactWriteError(message) from error
    if as_json:
        print_json(traced.to_json())
    else:
        for part in trace_report(traced):
            console.print(part, soft_wrap=isinstance(part, str))
        if html is not None:
            console.print(f"Page: {html}", soft_wrap=True, markup=False, highlight=False)
    if not traced.matches:
        raise typer.Exit(1)
