"""The command `boursomatic recommendations`: the active recommendations, for people and for programs."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boursomatic_assets.commands.opening import console, open_database, print_csv, program
from boursomatic_assets.commands.options import ProfileName

if TYPE_CHECKING:
    from polars import DataFrame

SHOWN = 60


def recommendations(
    *,
    profile: Annotated[ProfileName | None, typer.Option(help="Only for this profile.")] = None,
    label: Annotated[
        Literal["BUY", "HOLD", "SELL"] | None, typer.Option(help="Only these calls.", case_sensitive=False)
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Only for this instrument.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, a list of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Everything as CSV.")] = False,
) -> None:
    """Show the active recommendations.

    For example:

      boursomatic recommendations --profile conservative --label BUY

      boursomatic recommendations --csv > recommendations.csv
    """
    if as_json and as_csv:
        message = "choose one of --json and --csv"
        raise typer.BadParameter(message, param_hint="--csv")
    from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations

    _, database = open_database()
    rows = read_recommendations(database, profile=profile, label=label, symbols=symbol and [symbol])
    if as_json:
        # One object per line, for shells and people.
        lines = [
            json.dumps(row, ensure_ascii=False, allow_nan=False, default=lambda moment: moment.isoformat())
            for row in rows.to_dicts()
        ]
        sys.stdout.write("[" + ",\n ".join(lines) + "]\n")
    elif as_csv:
        print_csv(rows)
    else:
        _show(rows, filtered=any((profile, label, symbol)))


def _show(rows: "DataFrame", *, filtered: bool) -> None:
    from boursomatic_assets.display.terminal.recommendation_tables import recommendations_table

    if rows.is_empty():
        console.print(
            "No active recommendation matches: [bold]boursomatic recommendations[/bold] shows all"
            if filtered
            else "No recommendations yet: [bold]boursomatic recommend[/bold]",
            soft_wrap=True,
        )
        return
    console.print(recommendations_table(rows.head(SHOWN)))
    if rows.height > SHOWN:
        console.print(
            f"{rows.height - SHOWN:,} more of {rows.height:,}: filter with --profile, --label or --symbol, or "
            "print all with --csv or --json",
            soft_wrap=True,
        )
    console.print(f"Why: [bold]{program()} explain SYMBOL[/bold]", soft_wrap=True)
