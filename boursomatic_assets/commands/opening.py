"""The settings and the database that a command works on."""

import shutil
import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

# Dagster, polars and LightGBM are imported by the commands that need them: --help answers at once.

console = Console()
errors = Console(stderr=True)


def program() -> str:
    """Name the program as a person would type it: by name where the shell finds it, else by its path."""
    return "boursomatic" if shutil.which("boursomatic") == sys.argv[0] else sys.argv[0]


def open_database() -> "tuple[Settings, Database]":
    """Read the settings and open the database in use."""
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

    settings = Settings.from_environment()
    return settings, Database.open(settings)
