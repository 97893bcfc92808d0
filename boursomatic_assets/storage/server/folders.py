"""Paths of the embedded server's tables and log."""

from __future__ import annotations

from pathlib import Path


def data_folder(home: Path) -> Path:
    """Folder of the tables under a home."""
    return (home.resolve() / "postgres").resolve()


def log_file(home: Path) -> Path:
    """Log of the server and of `initdb`."""
    return home.resolve() / "postgres.log"
