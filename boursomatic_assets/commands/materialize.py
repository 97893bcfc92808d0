"""The command `boursomatic materialize`: run the graph and print the results."""

import os
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boursomatic_assets.commands.opening import console, program
from boursomatic_assets.commands.options import Path, Provider, Verbose, require_files
from boursomatic_assets.commands.recommend import reading_line
from boursomatic_assets.commands.running import require_benchmark, run_assets

if TYPE_CHECKING:
    from dagster import AssetKey, AssetsDefinition, AssetSelection

MOST_DAYS = 100_000
MOST_FOLDS = 99


def materialize(  # noqa: PLR0913 (each is an option)
    *,
    select: Annotated[
        str | None,
        typer.Option(
            help="Only these assets: names, comma-separated; a + after a name adds everything downstream."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Stop at this asset: of the selected ones, only those that it needs.")
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
            help="Train each fold on all earlier sessions, or on as many as the first fold.",
            show_default="expanding",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Symbol of an index or fund to compare with; models never learn from it."),
    ] = None,
    artifacts_dir: Annotated[
        str | None,
        typer.Option(help="Folder or fsspec URL for artifacts.", show_default="$BOURSOMATIC_HOME/artifacts"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Run the graph: from prices to an active model version and its record of skill, with a closing table.

    A selection also includes assets of the same function that its checks read, such as the three sets together.

    For example:

      boursomatic materialize

      boursomatic materialize --provider files --path prices.csv

      boursomatic materialize --select features+        (retrain on the stored bars, judge anew)

      boursomatic materialize --select features+ --to model_version        (retrain, by the shortest way)

      boursomatic materialize --select walk_forward+ --folds 12        (judge on more, shorter folds)
    """
    require_files(provider, path)
    _allow(BOURSOMATIC_PROVIDER_PATH=path, ARTIFACTS_DIR=artifacts_dir)
    platform = {"provider": provider, "provider_path": path, "artifacts_dir": artifacts_dir}
    walk_forward = _given({"folds": folds, "window": window})
    experiment = {"lookback_days": lookback_days, "benchmark": benchmark, "walk_forward": walk_forward or None}
    configuration = {"platform": {"config": _given(platform)}, "experiment": {"config": _given(experiment)}}
    keys = _selected(select, to)
    if benchmark is not None:
        require_benchmark(benchmark, keys, configuration["platform"]["config"])
    materialized = run_assets(keys, configuration, folds, verbose=verbose)
    from boursomatic_assets.display.terminal.closing import (
        assets_table,
        bars_summary,
        conclusion_lines,
        metrics_table,
        rests_on_lines,
    )
    from boursomatic_assets.display.terminal.recommendation_tables import made_line
    from boursomatic_assets.display.ui.model_version import outcome_lines

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
        console.print(f"Report: {materialized['report']['path']}", soft_wrap=True, markup=False)
    console.print(f"Click through it: [bold]{program()} dev[/bold]", soft_wrap=True)
    console.print(f'Query the tables: [bold]psql "$({program()} db url)"[/bold]', soft_wrap=True)


def _allow(**places: str | None) -> None:
    """Allow runs of this process to use the paths that the user typed; other runs use those of the environment."""
    for name, place in _given(places).items():
        os.environ[name] = place


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _selected(select: str | None, to: str | None) -> "list[Any] | None":
    """Resolve `a,b+`, limited to what one asset needs, to asset keys; None for everything."""
    if select is None and to is None:
        return None
    import dagster as dg

    from boursomatic_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    selection = dg.AssetSelection.all() if select is None else _parsed(select)
    if to is not None:
        _require_asset(to, "--to")
        selection &= dg.AssetSelection.assets(to).upstream()
    keys = selection.resolve(graph)
    if not keys:
        message = f"{to} needs none of the selected assets: {select}"
        raise typer.BadParameter(message, param_hint="--to")
    return sorted(_with_siblings(keys, graph.assets_defs))


def _with_siblings(keys: "AbstractSet[AssetKey]", definitions: "Collection[AssetsDefinition]") -> "set[AssetKey]":
    """Add assets that a check of a selected asset reads, if the same function makes both.

    Upstream assets that a check reads are stored already, or selected.
    """
    siblings = {key: definition.keys for definition in definitions for key in definition.keys}
    read = {
        key
        for check in definitions
        for checked in check.check_keys
        if checked.asset_key in keys
        for key in siblings[checked.asset_key] & set(check.keys_by_input_name.values())
    }
    return {*keys, *read}


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
