"""The commands `boursomatic db`: upgrade the database or its server, connect to it, stop the embedded one."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, errors

db = typer.Typer(
    help="The PostgreSQL database: upgrade it, connect to it, stop the embedded one.", no_args_is_help=True
)


@db.command()
def upgrade() -> None:
    """Create missing tables, columns and roles. Existing tables and rows stay as they are."""
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres import schema
    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.reader_role import READER, missing_grants
    from boursomatic_assets.storage.server.embedded import database_url

    database = Database(database_url(Settings.from_environment()))
    with database.connection():
        before = schema.upgrade(database.engine)
    console.print(f"Schema of {database.shown_url}: {before or 'none'} -> {schema.HEAD_REVISION}", soft_wrap=True)
    with database.connection() as connection:
        missing = missing_grants(connection)
    if missing:
        errors.print(
            f"Programs that only read may use the role {READER}. This login cannot create it. An administrator "
            "must run the statements below in this database; then run again: boursomatic db upgrade\n"
            + "".join(f"  {statement};\n" for statement in missing),
            soft_wrap=True,
        )


@db.command()
def upgrade_server(
    old_bin: Annotated[
        Path | None,
        typer.Option(help="Folder of the old version's programs, such as /usr/lib/postgresql/16/bin."),
    ] = None,
) -> None:
    """Upgrade the home's data folder to this program's PostgreSQL. The old folder is kept beside it.

    It needs room for a second copy. After an interruption, run it again.
    """
    from boursomatic_assets.errors import ConfigurationError
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.server.account import MAJOR_VERSION
    from boursomatic_assets.storage.server.upgrading import upgrade_server as upgrade_folder

    settings = Settings.from_environment()
    if settings.database_url is not None:
        message = (
            "DATABASE_URL names a server, which is upgraded by its administrator. Unset it to upgrade the server "
            f"of the home {settings.home}"
        )
        raise ConfigurationError(message)
    with console.status("Looking at the data folder") as status:
        done = upgrade_folder(settings.home, old_bin, status.update)
    if done is None:
        console.print(f"The data folder is of PostgreSQL {MAJOR_VERSION} already: nothing to do.")
        return
    rows = f"{sum(done.rows.values()):,} rows in {len(done.rows)} tables"
    console.print(f"PostgreSQL {done.version} -> {MAJOR_VERSION}: {rows}, counted before and after.")
    if done.settings:
        console.print("Settings of the old server; set each again by ALTER SYSTEM SET:")
        for setting in done.settings:
            console.print(f"  {setting}", soft_wrap=True, markup=False)
    console.print(
        f"The old folder is kept. When all is well, delete it: rm -r {shlex.quote(str(done.kept))}",
        soft_wrap=True,
        markup=False,
    )


@db.command()
def url() -> None:
    """Print the database's address, for psql and other tools: psql "$(boursomatic db url)"

    The embedded server then stays up until `boursomatic db stop`.
    """  # noqa: D400 (a command to copy)
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.server.embedded import database_url, keep_running

    settings = Settings.from_environment()
    if settings.database_url is None:
        keep_running(settings)
        errors.print("[dim]The embedded PostgreSQL stays up until: boursomatic db stop[/dim]")
    print(database_url(settings))  # noqa: T201 (nothing but the address, unwrapped, for a shell to take)


@db.command()
def stop() -> None:
    """Stop the embedded server that `db url` left running."""
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.server import embedded as server

    stopped = server.stop(Settings.from_environment())
    console.print("Stopped the embedded PostgreSQL." if stopped else "The embedded PostgreSQL is not running.")
