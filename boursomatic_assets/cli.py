"""The command line `boursomatic`: thin, it starts what Dagster offers and says what became of it."""

import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boursomatic_assets.commands.adjustments import adjustments
from boursomatic_assets.commands.database import db
from boursomatic_assets.commands.dev import dev
from boursomatic_assets.commands.experiments import experiments
from boursomatic_assets.commands.explain import explain
from boursomatic_assets.commands.models import models
from boursomatic_assets.commands.notices import notices
from boursomatic_assets.commands.opening import console, errors, program
from boursomatic_assets.commands.recommend import reading_line, recommend
from boursomatic_assets.commands.recommendations import recommendations
from boursomatic_assets.commands.report import report
from boursomatic_assets.commands.running import require_benchmark, run_assets
from boursomatic_assets.commands.trace import trace
from boursomatic_assets.commands.universe import universe
from boursomatic_assets.commands.verify import verify
from boursomatic_assets.errors import BoursomaticError
from boursomatic_assets.storage.private import hide_from_others

if TYPE_CHECKING:
    from dagster import AssetSelection

# Dagster, polars and LightGBM are imported by the commands that need them: --help answers at once.

FAILED = 1
MOST_DAYS = 100_000
MOST_FOLDS = 99

app = typer.Typer(
    help="Daily price bars to BUY / HOLD / SELL models that can be believed and traced.\n\n"
    "Start with: [bold]boursomatic materialize[/bold], then look around: [bold]boursomatic dev[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Environment: BOURSOMATIC_HOME (default ~/.boursomatic), DATABASE_URL (default: an embedded "
    "PostgreSQL), ARTIFACTS_DIR, BOURSOMATIC_PROVIDER, BOURSOMATIC_PROVIDER_PATH, BOURSOMATIC_UNIVERSE, "
    "BOURSOMATIC_MAX_REJECTED_SHARE, BOURSOMATIC_MIN_ARRIVED_SHARE, BOURSOMATIC_OVERLAP_SESSIONS, "
    "BOURSOMATIC_EXCHANGES, BOURSOMATIC_GATEWAY, BOURSOMATIC_REQUESTS_PER_SECOND, BOURSOMATIC_STOOQ_KEY, "
    "BOURSOMATIC_THREADS.",
)
app.command()(dev)
app.command()(recommend)
app.command()(recommendations)
app.command()(explain)
app.command()(trace)
app.command()(report)
app.command()(verify)
app.add_typer(universe, name="universe")
app.add_typer(adjustments, name="adjustments")
app.add_typer(models, name="models")
app.add_typer(experiments, name="experiments")
app.add_typer(notices, name="notices")
app.add_typer(db, name="db")

Verbose = Annotated[bool, typer.Option("--verbose", help="Show Dagster's log, and the traceback of an error.")]
Provider = Annotated[
    str | None,
    typer.Option(
        help="Price source: sample (bundled), files, yahoo, stooq, or database (bars already there).",
        show_default="sample",
    ),
]
Path = Annotated[
    str | None, typer.Option(help="For files: a Parquet or CSV file, or a folder with one file per symbol.")
]


@app.command()
def materialize(  # noqa: PLR0913 (each is an option)
    *,
    select: Annotated[
        str | None,
        typer.Option(
            help="Only these assets: names, comma-separated; a + after a name adds all that follows from it."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Stop at this asset: of what is selected, only what it needs.")
    ] = None,
    provider: Provider = None,
    path: Path = None,
    lookback_days: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_DAYS, help="Calendar days before the newest bar to train on.", show_default="2000"
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_FOLDS, help="Folds of the walk-forward, a partition each.", show_default="8"),
    ] = None,
    window: Annotated[
        Literal["expanding", "rolling"] | None,
        typer.Option(
            help="Train each fold on all sessions before it, or on as many as before the first.",
            show_default="expanding",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Symbol of an index or fund whose own return stands beside; never trained on."),
    ] = None,
    artifacts_dir: Annotated[
        str | None,
        typer.Option(help="Folder or fsspec URL for artifacts.", show_default="$BOURSOMATIC_HOME/artifacts"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Run the graph: prices to an active model version and its record of skill, with a closing table.

    For example:

      boursomatic materialize

      boursomatic materialize --provider files --path prices.csv

      boursomatic materialize --select features+        (retrain on the stored bars, judge anew)

      boursomatic materialize --select features+ --to model_version        (retrain, by the shortest way)

      boursomatic materialize --select walk_forward+ --folds 12        (judge on more, shorter folds)
    """
    _require_files(provider, path)
    platform = {"provider": provider, "provider_path": path, "artifacts_dir": artifacts_dir}
    walk_forward = _given({"folds": folds, "window": window})
    experiment = {"lookback_days": lookback_days, "benchmark": benchmark, "walk_forward": walk_forward or None}
    configuration = {
        "platform": {"config": _given(platform)},
        "experiment": {"config": _given(experiment)},
    }
    keys = _selected(select, to)
    if benchmark is not None:
        require_benchmark(benchmark, keys, configuration["platform"]["config"])
    materialized = run_assets(keys, configuration, folds, verbose=verbose)
    from boursomatic_assets.display.promotion import outcome_lines
    from boursomatic_assets.display.recommendation_tables import made_line
    from boursomatic_assets.display.terminal import (
        assets_table,
        bars_summary,
        conclusion_lines,
        metrics_table,
        rests_on_lines,
    )

    console.print(assets_table(materialized))
    for line in bars_summary(materialized["price_bars"]) if "price_bars" in materialized else ():
        console.print(line, soft_wrap=True)
    if "metrics" in materialized:
        console.print(metrics_table(materialized["metrics"]))
    for line in (*conclusion_lines(materialized), *rests_on_lines(materialized)):
        console.print(line, soft_wrap=True)
    if "model_version" in materialized:
        for line in outcome_lines(materialized["model_version"], program()):
            console.print(line, soft_wrap=True)
    if "recommendations" in materialized:
        console.print(made_line(materialized["recommendations"]), soft_wrap=True)
        console.print(reading_line(), soft_wrap=True)
    if "report" in materialized:
        console.print(f"Report: {materialized['report']['path']}", soft_wrap=True)
    console.print(f"Click through it: [bold]{program()} dev[/bold]", soft_wrap=True)
    console.print(f'Query the tables: [bold]psql "$({program()} db url)"[/bold]', soft_wrap=True)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _require_files(provider: str | None, path: str | None) -> None:
    """Refuse a path that the provider would ignore: prices were named, and others would be used."""
    from boursomatic_assets.settings import Settings

    if path is not None and (provider or Settings.from_environment().provider) != "files":
        message = "only the provider files reads a path; add: --provider files"
        raise typer.BadParameter(message, param_hint="--path")


def _selected(select: str | None, to: str | None) -> "list[Any] | None":
    """Resolve `a,b+`, of it only what one asset needs, to asset keys; None for everything."""
    if select is None and to is None:
        return None
    import dagster as dg

    from boursomatic_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    selection = dg.AssetSelection.all() if select is None else _parsed(select)
    if to is not None:
        _require_asset(to, "--to")
        selection &= dg.AssetSelection.assets(to).upstream()
    keys = sorted(selection.resolve(graph))
    if not keys:
        message = f"{to} needs nothing of what is selected: {select}"
        raise typer.BadParameter(message, param_hint="--to")
    return keys


def _parsed(select: str) -> "AssetSelection":
    import dagster as dg

    selection: dg.AssetSelection = dg.AssetSelection.assets()
    items = [part.strip() for part in select.split(",") if part.strip()]
    if not items:
        message = f"name at least one asset of: {', '.join(_known_assets())}"
        raise typer.BadParameter(message, param_hint="--select")
    for item in items:
        name = item.strip("+")
        _require_asset(name, "--select")
        chosen = dg.AssetSelection.assets(name)
        selection |= chosen.upstream() if item.startswith("+") else chosen
        selection |= chosen.downstream() if item.endswith("+") else chosen
    return selection


def _require_asset(name: str, option: str) -> None:
    if name not in _known_assets():
        message = f"there is no asset {name!r}; there are: {', '.join(_known_assets())}"
        raise typer.BadParameter(message, param_hint=option)


def _known_assets() -> list[str]:
    from boursomatic_assets.definitions import defs

    return sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())


@app.command()
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
    _require_files(provider, path)
    from boursomatic_assets.settings import Settings

    settings = Settings.from_environment()
    if faults:
        from boursomatic_assets.bench.faults import run_faults

        if not run_faults(console, events, restarts, kills):
            raise typer.Exit(FAILED)
    elif proofs:
        from boursomatic_assets.bench.proofs import run_proofs

        run_proofs(console, settings, null_panels, signal_panels)
    else:
        from boursomatic_assets.bench.stages import run_benchmark

        run_benchmark(console, provider or settings.provider, path or settings.provider_path, instruments)


def main() -> None:
    """Run a command; one clear message and exit code 1 when it fails, 2 when it was called wrongly."""
    hide_from_others()
    # Dagster warns of its own internals and of interfaces it may change; a user can do nothing about that.
    warnings.filterwarnings("ignore", message=r"(?s).*(currently in beta|is superseded|deprecated)")
    try:
        app()
    except Exception as error:
        if "--verbose" in sys.argv:
            raise
        errors.print("[bold red]Failed:[/bold red] ", end="")
        errors.print(_explain(error), markup=False, soft_wrap=True)
        sys.exit(FAILED)


def _explain(error: BaseException) -> str:
    """One message for a person: what was raised on purpose as it is, anything else with its kind."""
    described = getattr(error, "description", None)
    if isinstance(error, BoursomaticError) or described:
        return described or str(error)
    return f"{type(error).__name__}: {error}\nSee the whole of it: add --verbose"
