"""Shared by all commands: the consoles, the settings with the database, and output."""

import json
import shutil
import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from polars import DataFrame

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

# Dagster, polars and LightGBM are imported by the commands that need them: --help answers at once.

console = Console()
errors = Console(stderr=True)


def program() -> str:
    """The program as a user would type it: its name if the shell finds it, else its path."""
    return "boursomatic" if shutil.which("boursomatic") == sys.argv[0] else sys.argv[0]


def open_database() -> "tuple[Settings, Database]":
    """Read the settings and open the database in use."""
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

    settings = Settings.from_environment()
    return settings, Database.open(settings)


def login() -> str:
    """User and host, for the log."""
    import getpass
    import socket

    try:
        login = getpass.getuser()
    except (OSError, KeyError):
        # A container's user may have no name.
        login = "somebody"
    return f"{login}@{socket.gethostname()}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as `1 bundle` or `2 bundles`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def print_json(value: object) -> None:
    """Print JSON for a program: without terminal line breaks and colours."""
    typer.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def print_csv(frame: "DataFrame") -> None:
    """Print a table as CSV, with texts that a spreadsheet would take for a formula quoted."""
    import polars as pl

    texts = [pl.col(name) for name, kind in frame.schema.items() if kind == pl.String]
    quoted = [
        pl.when(text.str.contains(r"^[=+\-@\t\r]")).then(pl.lit("'") + text).otherwise(text) for text in texts
    ]
    named = dict(zip((text.meta.output_name() for text in texts), quoted, strict=True))
    sys.stdout.write(frame.with_columns(**named).write_csv())
