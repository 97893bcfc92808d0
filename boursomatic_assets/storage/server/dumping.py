"""A database as a file, by the PostgreSQL programs of the wheel: those in the PATH may be older than the server."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import sqlalchemy as sa

from boursomatic_assets.errors import BackupError
from boursomatic_assets.storage.server.account import Account, programs
from boursomatic_assets.storage.server.cluster import environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Owners and rights are those of the database it is restored into.
_SAME = ("--no-owner", "--no-privileges")


def dump_database(url: str, file: Path, without_rows: Sequence[str] = ()) -> None:
    """Write all tables, as one transaction sees them; raises BackupError with what PostgreSQL says.

    Rows of tables that match a pattern of `without_rows` are left out.
    """
    left_out = (f"--exclude-table-data={pattern}" for pattern in without_rows)
    run_program(url, "pg_dump", "--format=custom", *_SAME, *left_out, "--file", str(file))


def restore_database(url: str, file: Path) -> None:
    """Restore a dump in one transaction into an empty database; raises BackupError with what PostgreSQL says."""
    run_program(url, "pg_restore", "--single-transaction", "--exit-on-error", *_SAME, str(file))


def run_program(url: str, program: str, *options: str) -> None:
    """Run a program of the wheel on a database; raises BackupError with what it says."""
    address = sa.make_url(url)
    # Not in the command, which other users of this machine can see.
    password = {} if address.password is None else {"PGPASSWORD": str(address.password)}
    shown = address.set(drivername="postgresql")._replace(password=None)
    account = Account(os.geteuid(), os.getegid(), is_own=True)
    command = [str(programs(account) / program), "--no-password", "--dbname", shown.render_as_string(), *options]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env={**environment(), **password})
    if ended.returncode:
        message = f"{program}, {' '.join(ended.stderr.split()) or 'which ended without a word'}"
        raise BackupError(message)
