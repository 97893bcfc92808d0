"""The commands `boursomatic models`: list versions, activate one, remove unused bundles."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands.opening import console, counted, login, open_database, print_json

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.model_table import ModelRow

models = typer.Typer(help="Model versions: list them, activate one, remove unused bundles.", no_args_is_help=True)
Version = Annotated[str, typer.Argument(help="As `boursomatic models list` shows it.", show_default=False)]
Shown = Annotated[
    str | None,
    typer.Argument(help="As `boursomatic models list` shows it.", show_default="the active one"),
]
Why = Annotated[str, typer.Option("--why", help="The reason, for the log.", show_default=False)]
NOT_SAID = "not said"


@models.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest versions.")] = 20,
) -> None:
    """Show recorded model versions, the newest first."""
    from boursomatic_assets.display.terminal.closing import price_level_note, versions_table
    from boursomatic_assets.storage.postgres.model_table import list_versions
    from boursomatic_assets.storage.postgres.version_inputs import price_levels_read

    _, database = open_database()
    rows = list_versions(database, limit)
    if rows:
        price_levels = price_levels_read(database, rows)
        console.print(versions_table(rows, price_levels))
        for version, inputs in price_levels.items():
            console.print(price_level_note(version, inputs), soft_wrap=True)
        for row in filter(lambda row: row.is_active, rows):
            console.print(f"Active bundle: {row.model_path}", soft_wrap=True, markup=False)
    else:
        console.print("No model version yet: [bold]boursomatic materialize[/bold]")


@models.command()
def show(
    version: Shown = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show a version: the gate's decision and its reason, and its events."""
    from boursomatic_assets.display.terminal.closing import version_report
    from boursomatic_assets.errors import MissingArtifactError
    from boursomatic_assets.storage.postgres.model_events import list_events
    from boursomatic_assets.storage.postgres.model_table import active_version, find_version
    from boursomatic_assets.storage.postgres.version_inputs import price_levels_read

    _, database = open_database()
    row = active_version(database) if version is None else find_version(database, version)
    if row is None:
        missing = "no version is active" if version is None else f"there is no version {version!r}"
        message = f"{missing}; see what there is: boursomatic models list"
        raise MissingArtifactError(message)
    events = list_events(database, row.version)
    levels = price_levels_read(database, [row]).get(row.version, [])
    if as_json:
        print_json({**asdict(row), "price_levels": levels, "events": [asdict(event) for event in events]})
        return
    for shown in version_report(row, events, levels):
        console.print(shown, soft_wrap=True)


@models.command()
def activate(version: Version, *, why: Why = NOT_SAID) -> None:
    """Make a recorded version the active one, also against the decision of the gate.

    Its bundle is verified first. The next recommendations use it. For example:

      boursomatic models activate 20260102_030405_abcdef --why "the newest one knows nothing of the crash"
    """
    from boursomatic_assets.storage.postgres.model_table import activate as make_active

    _, database = open_database()
    before = make_active(database, version, who=login(), why=why, inspect=_require_servable)
    if before == version:
        console.print(f"{version} is the active version already; nothing was changed.", soft_wrap=True)
    else:
        _say_active(version, before)


@models.command()
def rollback(*, why: Why = NOT_SAID) -> None:
    """Activate the version that was active before. Twice goes back two versions."""
    from boursomatic_assets.storage.postgres.model_table import rollback as go_back

    _, database = open_database()
    before, version = go_back(database, who=login(), why=why, inspect=_require_servable)
    _say_active(version, before)


@models.command()
def prune(
    *,
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="How many of the newest bundles stay.", show_default="BOURSOMATIC_KEEP_BUNDLES"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it, only list them.")] = False,
) -> None:
    """Remove bundles of versions that were never active, and snapshots that no remaining bundle references.

    The newest bundles stay, and those of all versions that were ever active. Database rows always stay. A bundle
    that a killed training left, without a row, goes too. `boursomatic prune` does this and more.
    """
    from upath import UPath

    from boursomatic_assets.settings import Retention
    from boursomatic_assets.storage.artifacts.retention import prune as remove_unused

    settings, database = open_database()
    kept = Retention.from_environment().bundles if keep is None else keep
    pruned = remove_unused(database, UPath(settings.artifacts_dir), kept, who=login(), remove=yes)
    for version in pruned.versions:
        console.print(f"bundle    {version}", highlight=False)
    for version in pruned.unrecorded:
        console.print(f"bundle    {version}, of a training that was killed", highlight=False, soft_wrap=True)
    for name in pruned.snapshots:
        console.print(f"snapshot  {name}", highlight=False, soft_wrap=True)
    bundles = len(pruned.versions) + len(pruned.unrecorded)
    what = (
        f"{counted(bundles, 'bundle')} and {counted(len(pruned.snapshots), 'snapshot')}, "
        f"{pruned.bytes / 1e6:,.1f} MB"
    )
    if not (bundles or pruned.snapshots):
        console.print("Nothing to remove.")
    elif yes:
        console.print(f"Removed {what}.")
    else:
        console.print(f"Would remove {what}. To do it: [bold]boursomatic models prune --keep {kept} --yes[/bold]")


def _require_servable(row: "ModelRow") -> None:
    """Raise unless the version's bundle is intact and can be served."""
    from boursomatic_assets.core.registry.serving import Serving
    from boursomatic_assets.errors import MissingArtifactError
    from boursomatic_assets.storage.artifacts.bundles import open_bundle

    if not row.model_path or row.manifest_sha256 is None:
        missing = "bundle" if not row.model_path else "digest to compare its bundle with"
        message = f"version {row.version} has no {missing}: another program recorded it. Nothing was changed"
        raise MissingArtifactError(message)
    try:
        bundle = open_bundle(row.model_path, row.manifest_sha256, row.version)
    except MissingArtifactError as error:
        message = (
            f"the bundle of version {row.version} is not at {row.model_path}: it was pruned or moved. "
            f"Nothing was changed. Its events: boursomatic models show {row.version}"
        )
        raise MissingArtifactError(message) from error
    Serving.of(bundle)


def _say_active(version: str, before: str | None) -> None:
    console.print(f"Active model version: [bold green]{version}[/bold green] (before: {before or 'none'})")
