"""How many versions are active, looked at all the time while things fail."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets.storage.postgres.database import Database


@dataclass
class Watched:
    """What was seen while things failed.

    Attributes
    ----------
    looks : int
        How often it was looked how many versions are active.
    active_counts : set of int
        What was seen then.
    broken : list of str
        Promises that did not hold.
    """

    looks: int = 0
    active_counts: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def require_one_active(self) -> None:
        """Count it as a broken promise if at any look there was not one active version."""
        if self.active_counts - {1}:
            self.broken.append(f"so many versions were active at some moment: {sorted(self.active_counts)}")


@contextmanager
def watching(database: Database, found: Watched, seconds: float) -> Iterator[None]:
    """Look all the time how many versions are active, with so many seconds between two looks."""
    is_over = threading.Event()

    def watch() -> None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not is_over.wait(seconds):
                count = connection.execute(sa.text("SELECT count(*) FROM model_versions WHERE is_active")).scalar()
                found.active_counts.add(int(count or 0))
                found.looks += 1

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
