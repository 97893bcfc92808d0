"""The command `boursomatic recommend`: recommendations from stored data, without training."""

from typing import Annotated, Literal

import typer

from boursomatic_assets.commands.opening import console, program
from boursomatic_assets.commands.options import Verbose
from boursomatic_assets.commands.running import run_assets


def recommend(
    *,
    language: Annotated[
        Literal["en", "fr"] | None, typer.Option(help="Language of the reasons.", show_default="en")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Recommend with the active model on the newest features of every active instrument; train nothing.

    New bars and features first: boursomatic materialize --select price_bars,features
    """
    import dagster as dg

    from boursomatic_assets.display.terminal.recommendation_tables import (
        calls_table,
        exclusions_table,
        made_line,
        mix_table,
        reason_lines,
        written_line,
    )

    configuration = {"experiment": {"config": {"language": language}}} if language else {}
    metadata = run_assets([dg.AssetKey("recommendations")], configuration, verbose=verbose)["recommendations"]

    console.print(made_line(metadata), soft_wrap=True)
    console.print(mix_table(metadata))
    if metadata["strongest"]:
        console.print(calls_table(metadata["strongest"]))
        for line in reason_lines(metadata["strongest"]):
            console.print(line, soft_wrap=False, highlight=False)
    else:
        console.print("No profile calls BUY or SELL: no probability reaches its threshold.")
    if metadata["excluded"]:
        console.print(exclusions_table(metadata["excluded"]))
    console.print(written_line(metadata), soft_wrap=True)
    console.print(
        f"Trace of the strongest call: {metadata['trace']}", soft_wrap=True, highlight=False, markup=False
    )
    console.print(reading_line(), soft_wrap=True)


def reading_line() -> str:
    """Which commands show recommendations and their reasons."""
    return f"Read them: [bold]{program()} recommendations[/bold]; why: [bold]{program()} explain SYMBOL[/bold]"
