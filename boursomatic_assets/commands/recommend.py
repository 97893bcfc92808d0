"""The command `boursomatic recommend`: recommendations from what is stored, without training anything."""

from typing import Annotated, Any, Literal

import typer

from boursomatic_assets.commands.opening import console, program
from boursomatic_assets.commands.running import run_assets


def recommend(
    *,
    language: Annotated[
        Literal["en", "fr"] | None, typer.Option(help="Language of the reasons.", show_default="en")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show Dagster's log, and the traceback of an error.")
    ] = False,
) -> None:
    """Recommend with the active model on the newest features of every active instrument; train nothing.

    New bars and features first: boursomatic materialize --select price_bars,features
    """
    import dagster as dg

    configuration = {"experiment": {"config": {"language": language}}} if language else {}
    made = run_assets([dg.AssetKey("recommendations")], configuration, verbose=verbose)
    show_recommendations(made["recommendations"])


def show_recommendations(metadata: dict[str, Any]) -> None:
    """Print what a run recommended: calls of each profile, the strongest with their reasons, who was left out."""
    from boursomatic_assets.display.terminal.recommendation_tables import (
        calls_table,
        exclusions_table,
        made_line,
        mix_table,
        reason_lines,
        written_line,
    )

    console.print(made_line(metadata), soft_wrap=True)
    console.print(mix_table(metadata))
    if metadata["strongest"]:
        console.print(calls_table(metadata["strongest"]))
        for line in reason_lines(metadata["strongest"]):
            console.print(line, soft_wrap=False, highlight=False)
    else:
        console.print("No profile calls BUY or SELL on any instrument: nothing is as likely as it asks for.")
    if metadata["excluded"]:
        console.print(exclusions_table(metadata["excluded"]))
    console.print(written_line(metadata), soft_wrap=True)
    console.print(f"The strongest, followed back to its bars: {metadata['trace']}", soft_wrap=True, highlight=False)
    console.print(reading_line(), soft_wrap=True)


def reading_line() -> str:
    """Say how to read what was recommended."""
    return f"Read them: [bold]{program()} recommendations[/bold]; why: [bold]{program()} explain SYMBOL[/bold]"
