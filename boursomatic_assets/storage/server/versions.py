"""The PostgreSQL version of a data folder, and the exchange of an old folder for an upgraded one."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from boursomatic_assets.errors import DatabaseUnreachableError
from boursomatic_assets.storage.private import sync_folder
from boursomatic_assets.storage.server.account import MAJOR_VERSION


def version_of(data: Path) -> int | None:
    """Major version of PostgreSQL that made a data folder; None without one.

    Raises DatabaseUnreachableError if the folder does not say it: its file may have been lost with the power.
    """
    file = data / "PG_VERSION"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if not data.is_dir() or not any(data.iterdir()):
            return None
        text = ""
    major = text.partition(".")[0]
    if not major.isdecimal():
        message = (
            f"the data folder {data} does not say of which PostgreSQL it is: {file} should hold a number such as "
            f"{MAJOR_VERSION}, found {text[:20]!r}. Write it into the file, or restore a backup"
        )
        raise DatabaseUnreachableError(message)
    return int(major)


def require_version(data: Path) -> None:
    """Raise DatabaseUnreachableError, with the remedy, for a data folder of another version."""
    version = version_of(data)
    if version in {None, MAJOR_VERSION}:
        return
    remedy = (
        "Upgrade it, the old folder is kept: boursomatic db upgrade-server"
        if (version or 0) < MAJOR_VERSION
        else "Install the newer boursomatic-assets, or choose another folder: BOURSOMATIC_HOME"
    )
    message = (
        f"{data} is of PostgreSQL {version}, and this program comes with PostgreSQL {MAJOR_VERSION}.\n{remedy}"
    )
    raise DatabaseUnreachableError(message)


def exchange(data: Path, upgraded: Path) -> Path:
    """Put an upgraded data folder in the old one's place; returns where the old one is kept.

    Killed between any two steps, `complete_exchange` or another upgrade continues.
    """
    upgraded.rename(_complete(data))
    sync_folder(data.parent)
    name = f"{data.name}-{version_of(data)}-before-upgrade"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    kept = next(path for path in map(data.with_name, names) if not path.exists())
    data.rename(kept)
    sync_folder(data.parent)
    complete_exchange(data)
    return kept


def complete_exchange(data: Path) -> None:
    """Complete an exchange that was killed after the old folder had been set aside."""
    if not data.exists() and _complete(data).exists():
        _complete(data).rename(data)
        sync_folder(data.parent)


def unused_upgrades(data: Path) -> list[Path]:
    """What killed upgrades left; the old folder may have changed since."""
    return [path for path in (_complete(data), *data.parent.glob(f"{data.name}.upgrading-*")) if path.exists()]


def _complete(data: Path) -> Path:
    """Name of an upgraded folder whose rows have been counted."""
    return data.with_name(f"{data.name}.upgraded")
