"""`boursomatic bench`: measurements that lie beside the package in a clone of its repository."""

import sys
from pathlib import Path as FilePath
from typing import Annotated

import typer

import boursomatic_assets
from boursomatic_assets.commands.opening import console
from boursomatic_assets.commands.options import Path, Provider, require_files
from boursomatic_assets.errors import NotInstalledError

FAILED = 1


def bench(  # noqa: PLR0913 (each is an option)
    *,
    provider: Provider = None,
    path: Path = None,
    proofs: Annotated[
        bool,
        typer.Option(
            "--proofs",
            help="Instead: judge simulated prices with nothing to find, and with a planted signal, and keep what "
            "was reported of them for the report. Takes an hour or so.",
        ),
    ] = False,
    null_panels: Annotated[int, typer.Option(min=0, help="Panels with nothing to find, for --proofs.")] = 200,
    instruments: Annotated[
        list[int],
        typer.Option(
            "--instruments", min=1, help="How many simulated instruments to recommend on; may come twice."
        ),
    ] = [505, 10_000],  # noqa: B006 (typer copies it)
    signal_panels: Annotated[int, typer.Option(min=0, help="Panels with a signal, for --proofs.")] = 20,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults",
            help="Instead: kill daemons and trainings while bars go on coming, with the real daemon, webserver and "
            "PostgreSQL, and see what holds. Ends with 1 where something does not. Takes half an hour or so.",
        ),
    ] = False,
    events: Annotated[
        int, typer.Option(min=0, help="Bar events for --faults; 0 leaves them out, and the restarts.")
    ] = 100,
    restarts: Annotated[int, typer.Option(min=0, help="Daemons killed meanwhile, for --faults.")] = 10,
    kills: Annotated[int, typer.Option(min=0, help="Trainings killed, for --faults; 0 leaves them out.")] = 50,
) -> None:
    """Measure each stage (seconds, rows a second, peak memory) and LightGBM alone, in a home of its own."""
    require_files(provider, path)
    from boursomatic_assets.settings import Settings

    _find_benchmarks()
    settings = Settings.from_environment()
    if faults:
        from benchmarks.faults import run_faults

        if not run_faults(console, events, restarts, kills):
            raise typer.Exit(FAILED)
    elif proofs:
        from benchmarks.proofs import run_proofs

        run_proofs(console, settings, null_panels, signal_panels)
    else:
        from benchmarks.stages import run_benchmark

        run_benchmark(console, provider or settings.provider, path or settings.provider_path, instruments)


def _find_benchmarks() -> None:
    """Make the folder `benchmarks` of a clone importable, also in the processes that it starts."""
    clone = FilePath(boursomatic_assets.__file__).resolve().parents[1]
    if not (clone / "benchmarks").is_dir():
        message = (
            "benchmarks are not part of the installed package. They are in the folder benchmarks/ of its "
            "repository: clone that, and run there: make bench"
        )
        raise NotInstalledError(message)
    sys.path.insert(0, str(clone))
