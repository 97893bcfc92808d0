"""The command `boursomatic bench`: measurements in the folder `benchmarks` of a clone."""

import sys
from pathlib import Path as FilePath
from typing import Annotated

import typer

import boursomatic_assets
from boursomatic_assets.commands.opening import console
from boursomatic_assets.commands.options import Path, Provider, require_files
from boursomatic_assets.errors import NotInstalledError

# Symbols and sessions of the installation that --growth simulates.
GROWING_SYMBOLS, GROWING_HISTORY = 500, 500


def bench(  # noqa: PLR0913 (each is an option)
    *,
    provider: Provider = None,
    path: Path = None,
    proofs: Annotated[
        bool,
        typer.Option(
            "--proofs",
            help="Instead: evaluate simulated prices without a signal and with a planted one. The report shows the "
            "stored results. Takes about an hour.",
        ),
    ] = False,
    null_panels: Annotated[int, typer.Option(min=0, help="Panels without a signal, for --proofs.")] = 200,
    instruments: Annotated[
        list[int],
        typer.Option(
            "--instruments", min=1, help="How many simulated instruments to recommend on; may be repeated."
        ),
    ] = [505, 10_000],  # noqa: B006 (typer copies it)
    signal_panels: Annotated[int, typer.Option(min=0, help="Panels with a signal, for --proofs.")] = 20,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults",
            help="Instead: kill trainings, other commands, and daemons while bars arrive, with the real daemon, "
            "webserver and PostgreSQL. Ends with 1 if a guarantee is broken. Takes about an hour.",
        ),
    ] = False,
    events: Annotated[
        int, typer.Option(min=0, help="Bar events for --faults; 0 skips them and the restarts.")
    ] = 100,
    restarts: Annotated[int, typer.Option(min=0, help="Daemons killed meanwhile, for --faults.")] = 10,
    kills: Annotated[int, typer.Option(min=0, help="Trainings killed, for --faults; 0 skips them.")] = 50,
    commands: Annotated[
        int,
        typer.Option(
            min=0,
            help="Commands killed, for --faults: ingest, features, training, promotion, recommending, backup, "
            "restore and prune in turn; 0 skips them.",
        ),
    ] = 200,
    folder: Annotated[
        FilePath | None,
        typer.Option(
            help="Folder that keeps the homes and results of the killed commands: the next call goes on there.",
            show_default="a temporary one",
        ),
    ] = None,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth",
            help="Instead: simulate an installation of 500 symbols with the retention policy on, and print its "
            "size over time. Ends with 1 if it is not flat after the windows. A year takes about half an hour.",
        ),
    ] = False,
    days: Annotated[int, typer.Option(min=15, help="Sessions to simulate, for --growth.")] = 252,
    shorten: Annotated[int, typer.Option(min=1, help="Divide the policy's windows by this, for --growth.")] = 1,
) -> None:
    """Measure each stage (seconds, rows per second, peak memory) and LightGBM alone, in a temporary home."""
    require_files(provider, path)
    from boursomatic_assets.settings import Settings

    _find_benchmarks()
    settings = Settings.from_environment()
    if faults:
        from benchmarks.faults import run_faults

        if not run_faults(console, events, restarts, kills, commands=commands, folder=folder):
            raise typer.Exit(1)
    elif growth:
        from benchmarks.growth import run_growth

        if not run_growth(console, days, GROWING_SYMBOLS, GROWING_HISTORY, shorten):
            raise typer.Exit(1)
    elif proofs:
        from benchmarks.proofs import run_proofs

        run_proofs(console, settings, null_panels, signal_panels)
    else:
        from benchmarks.stages import run_benchmark

        run_benchmark(console, provider or settings.provider, path or settings.provider_path, instruments)


def _find_benchmarks() -> None:
    """Make the folder `benchmarks` of a clone importable, also in child processes."""
    clone = FilePath(boursomatic_assets.__file__).resolve().parents[1]
    if not (clone / "benchmarks").is_dir():
        message = (
            "benchmarks are not part of the installed package. They are in the folder benchmarks/ of its "
            "repository: clone it and run there: make bench"
        )
        raise NotInstalledError(message)
    sys.path.insert(0, str(clone))
