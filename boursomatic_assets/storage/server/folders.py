"""Where the embedded server keeps its tables and its log."""

from __future__ import annotations

from pathlib import Path


def data_folder(home: Path) -> Path:
    """Folder of the tables under a home."""
    return (home.resolve() / "postgres").resolve()


def log_file(home: Path) -> Path:
    """Where the server, and the program that sets its folder up, write what they do."""
    return home.resolve() / "postgres.log"
