"""Files and processes of an embedded server; a process is identified by its working directory."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def data_folder(home: Path) -> Path:
    """Folder of the tables under a home."""
    return (home.resolve() / "postgres").resolve()


def log_file(home: Path) -> Path:
    """Log of the server and of `initdb`."""
    return home.resolve() / "postgres.log"


def postmaster(data: Path) -> psutil.Process | None:
    """Server process of this data folder; a left process number may belong to another process now."""
    try:
        process = psutil.Process(int(status_lines(data)[0]))
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process if _works_in(process, data) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def orphans(data: Path) -> list[psutil.Process]:
    """Processes of a server of this folder whose postmaster was killed."""
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and _works_in(process, data)
    ]


def _works_in(process: psutil.Process, data: Path) -> bool:
    found = data.stat()
    try:
        return os.path.samestat(Path(f"/proc/{process.pid}/cwd").stat(), found)
    except OSError:
        # Not Linux, or a container whose root may not inspect other users' processes.
        pass
    try:
        return process.uids().real == found.st_uid and str(data) in process.cmdline()
    except psutil.Error:
        return False


def status_lines(data: Path) -> list[str]:
    """Lines of the server's status file, which may be gone or half written."""
    return (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def status(data: Path) -> str:
    """State that the server reports: `starting`, `ready`, `stopping`, or empty."""
    try:
        return status_lines(data)[7].strip()
    except (OSError, IndexError):
        return ""


def is_ready(data: Path, process: int) -> bool:
    """Whether the server with this process number accepts connections."""
    try:
        lines = status_lines(data)
        return int(lines[0]) == process and lines[7].strip() == "ready"
    except (OSError, IndexError, ValueError):
        return False
