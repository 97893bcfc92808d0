"""The commands `boursomatic experiments`: the ledger of all trainings."""

from dataclasses import asdict
from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, open_database, print_json

experiments = typer.Typer(help="The ledger of experiments.", no_args_is_help=True)


@experiments.command("list")
def list_experiments(
    as_json: Annotated[bool, typer.Option("--json", help="Whole experiments and figures, as JSON.")] = False,  # noqa: FBT002 (typer)
) -> None:
    """Show all experiments and their figures, the newest first, also those without a recorded version."""
    from boursomatic_assets.display.terminal.trials import trials_report
    from boursomatic_assets.storage.postgres.trials_table import count_trials, list_trials

    _, database = open_database()
    trials = list_trials(database)
    if as_json:
        print_json([asdict(trial) for trial in trials])
    elif trials:
        counted = count_trials(database, trials[0].test_first, trials[0].test_last)
        for shown in trials_report(trials, counted.count):
            console.print(shown, soft_wrap=True)
    else:
        console.print("No experiment was tried yet: [bold]boursomatic materialize[/bold]")
