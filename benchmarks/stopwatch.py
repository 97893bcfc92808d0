"""Seconds, rows and peak memory of each stage."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_SECONDS = 0.01
# Finding child processes costs too much for every sample.
SAMPLES_A_SEARCH = 10


@dataclass
class Stopwatch:
    """Seconds, rows and peak resident memory in bytes, by stage."""

    stages: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, rows: int) -> Iterator[None]:
        """Measure one stage; another thread samples the memory, also of child processes."""
        peak, ended = [0], threading.Event()
        sampler = threading.Thread(target=_sample_memory, args=(peak, ended), daemon=True)
        sampler.start()
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            ended.set()
            sampler.join()
            self.stages[name] = (seconds, rows, peak[0])

    def seconds(self, *names: str) -> float:
        """Sum over some stages."""
        return sum(self.stages[name][0] for name in names)


def _sample_memory(peak: list[int], ended: threading.Event) -> None:
    """Largest resident memory of this process or of a child."""
    here = psutil.Process()
    children: list[psutil.Process] = []
    for sample in itertools.count():
        if sample % SAMPLES_A_SEARCH == 0:
            children = here.children(recursive=True)
        for process in (here, *children):
            try:
                # PostgreSQL's processes share their buffers, which would count repeatedly.
                if process.name() != "postgres":
                    peak[0] = max(peak[0], process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        if ended.wait(SAMPLE_SECONDS):
            return
