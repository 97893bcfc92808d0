"""The commands `boursomatic backup` and `boursomatic restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands.opening import console, counted, program

if TYPE_CHECKING:
    from boursomatic_assets.storage.artifacts.archive import Contents


def backup(file: Annotated[Path, typer.Argument(help="File to write, such as boursomatic.tar.")]) -> None:
    """Write database and artifacts into one file, as a consistent pair with their digests.

    The platform may keep running. Settings of the environment are not included.
    """
    from boursomatic_assets.services.backup import write_backup
    from boursomatic_assets.settings import Settings

    with console.status("Opening the database") as status:
        summary = write_backup(Settings.from_environment(), file, status.update)
    console.print(f"Backup: {file}, {_described(summary)}", soft_wrap=True, markup=False)
    console.print(f"Restore it: BOURSOMATIC_HOME=… {program()} restore {file}", soft_wrap=True, markup=False)


def restore(file: Annotated[Path, typer.Argument(help="File that `boursomatic backup` wrote.")]) -> None:
    """Restore a backup into an empty home, or into an empty database that DATABASE_URL names.

    All digests are compared first. After an interruption, run it again.
    """
    from boursomatic_assets.services.backup import restore_backup
    from boursomatic_assets.settings import Settings

    settings = Settings.from_environment()
    with console.status("Opening the backup") as status:
        summary = restore_backup(settings, file, status.update)
    console.print(f"Restored: {_described(summary)}", soft_wrap=True, markup=False)
    console.print(f"Home: {settings.home}; artifacts: {settings.artifacts_dir}", soft_wrap=True, markup=False)
    console.print(f"Look at it: {program()} models list", soft_wrap=True, markup=False)


def _described(summary: "Contents") -> str:
    size = f"{summary.bytes / 1_000_000:,.1f} MB"
    return f"of {summary.created}, database at {summary.revision}, {counted(summary.artifacts, 'artifact')}, {size}"
