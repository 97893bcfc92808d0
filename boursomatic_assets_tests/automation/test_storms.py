"""The killed trainings of `boursomatic bench --faults`, shortened, and what is printed of all its storms."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from benchmarks.bar_events import BarStorm
from benchmarks.faults import print_faults
from benchmarks.guarantees import Stored, half_done, lost
from benchmarks.killed_commands import KilledCommands
from benchmarks.killed_trainings import KilledTrainings, kill_trainings
from benchmarks.silent_receiver import LateDelivery

pytestmark = pytest.mark.slow

KILLS = 3


def advance() -> None:
    """Nobody looks how far it is."""


def test_trainings_killed_at_random_moments_leave_one_active_version_and_no_half_bundle() -> None:
    found = kill_trainings(KILLS, advance)
    assert found.broken == []
    assert found.active_counts == {1}
    assert found.kills == KILLS
    assert found.healed
    # The first, the last, and those that were killed after they had recorded theirs; more were begun than recorded.
    assert found.bundles >= 2 + found.recorded
    assert found.recorded < KILLS


def test_what_was_lost_or_half_done_is_named() -> None:
    def stored(rows: set[str], **contents: str) -> Stored:
        return Stored({"trials": frozenset(rows)}, {"features": contents}, None)

    before, after = stored({"1"}, KO="a", FB="a"), stored({"1", "2"}, KO="b", FB="b", AAPL="b")
    assert lost(before, after) == []
    assert lost(after, before) == ["1 rows of trials are lost", "1 rows of features are lost"]
    assert half_done(before, stored(set(), KO="a", FB="b"), after) == []
    assert half_done(before, stored(set(), KO="half"), after) == ["KO in features was half done"]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_broken_promise_of_any_storm_is_named_and_counts(place: int) -> None:
    storms = [
        KilledTrainings(kills=50),
        LateDelivery(failures=1),
        BarStorm(events=100, seconds_to_return=[12.0, 30.0]),
        KilledCommands(begun=9, kills=Counter(ingest=8)),
    ]
    output = io.StringIO()
    assert print_faults(Console(file=output, width=120), storms)
    assert "Every guarantee held." in output.getvalue()
    assert "median 21, at most 30" in output.getvalue()
    storms[place].broken.append("two versions are active")
    output = io.StringIO()
    assert not print_faults(Console(file=output, width=120), storms)
    assert "Broken: two versions are active" in output.getvalue()
    assert "Every guarantee held." not in output.getvalue()
