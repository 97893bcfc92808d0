"""Count the active versions continuously during a fault test."""

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
    """Results of a fault test: looks at the number of active versions, the numbers seen, and broken guarantees."""

    looks: int = 0
    active_counts: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def require_one_active(self) -> None:
        """Record a broken guarantee if at any look the number of active versions was not 1."""
        if self.active_counts - {1}:
            self.broken.append(f"numbers of active versions seen: {sorted(self.active_counts)}")


@contextmanager
def watching(database: Database, watched: Watched, seconds: float) -> Iterator[None]:
    """Count the active versions every `seconds`."""
    is_over = threading.Event()

    def watch() -> None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not is_over.wait(seconds):
                count = connection.execute(sa.text("SELECT count(*) FROM model_versions WHERE is_active")).scalar()
                watched.active_counts.add(int(count or 0))
                watched.looks += 1

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
