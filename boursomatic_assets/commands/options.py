"""Options that several commands take."""

from typing import Annotated, Literal

import typer

ProfileName = Literal["conservative", "moderate", "aggressive"]

Verbose = Annotated[bool, typer.Option("--verbose", help="Show Dagster's log, and the traceback of an error.")]
Provider = Annotated[
    str | None,
    typer.Option(
        help="Price source: sample (bundled), files, yahoo, stooq, eodhd, tiingo, database (bars already there).",
        show_default="sample",
    ),
]
Path = Annotated[
    str | None, typer.Option(help="For files: a Parquet or CSV file, or a folder with one file per symbol.")
]


def require_files(provider: str | None, path: str | None) -> None:
    """Refuse a path that the provider in use would ignore."""
    from boursomatic_assets.settings import Settings

    if path is not None and (provider or Settings.from_environment().provider) != "files":
        message = "only the provider files reads a path; add: --provider files"
        raise typer.BadParameter(message, param_hint="--path")
