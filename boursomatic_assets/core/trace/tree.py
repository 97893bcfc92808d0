"""The tree of a trace: from a number to its source, recorded values beside those found now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MATCHES, DIFFERS, NOT_RECORDED, GONE = "matches", "differs", "not recorded", "gone"
# The environment of the computation has changed; the computed steps say whether that changed a value.
CHANGED = "changed since"
STATUSES = (MATCHES, CHANGED, NOT_RECORDED, GONE, DIFFERS)
NOTHING = "nothing"


@dataclass(frozen=True)
class TraceStep:
    """One step from a recommendation towards its bars; its children are its inputs or parts.

    `recorded` and `found` show numbers with all their digits; `detail` is for people.
    """

    name: str
    status: str
    recorded: str = ""
    found: str = ""
    detail: str = ""
    children: tuple[TraceStep, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether this step itself is unchanged."""
        return self.status in {MATCHES, CHANGED}

    def walk(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TraceStep]]:
        """Every step from here on with the names that lead to it, this one first."""
        path = (*above, self.name)
        yield path, self
        for child in self.children:
            yield from child.walk(path)

    def sources(self) -> list[tuple[tuple[str, ...], TraceStep]]:
        """Changed steps without a changed step below them."""
        broken = [(path, step) for path, step in self.walk() if not step.is_sound]
        return [
            (path, step)
            for path, step in broken
            if not any(other[: len(path)] == path and other != path for other, _ in broken)
        ]

    def to_json(self) -> dict[str, Any]:
        """Strict JSON, the steps below included."""
        texts = {"name": self.name, "status": self.status, "recorded": self.recorded, "found": self.found}
        return {**texts, "detail": self.detail, "children": [child.to_json() for child in self.children]}


@dataclass(frozen=True)
class Trace:
    """A recommendation (`facts`: id, symbol, session, profile, label, version and more) and its tree of steps."""

    facts: dict[str, Any]
    root: TraceStep

    @property
    def matches(self) -> bool:
        """Whether every step is unchanged."""
        return all(step.is_sound for _, step in self.root.walk())

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: the facts, whether it `matches`, the `sources` of differences, all `steps`."""
        sources = [{"path": list(path), **step.to_json()} for path, step in self.root.sources()]
        return {**self.facts, "matches": self.matches, "sources": sources, "steps": self.root.to_json()}


def shown(value: object) -> str:
    """Write a value with all its digits: equal texts are equal to the last bit.

    Examples
    --------
    >>> shown(0.1 + 0.2), shown(None), shown("BUY")
    ('0.30000000000000004', 'nothing', 'BUY')
    """
    if value is None:
        return NOTHING
    return json.dumps(value) if isinstance(value, int | float | list | dict) else str(value)


def value_step(name: str, recorded: object, found: object, detail: str = "") -> TraceStep:
    """Compare two values to the last bit."""
    then, now = shown(recorded), shown(found)
    return TraceStep(name, MATCHES if then == now else DIFFERS, then, now, detail)


def digest_step(name: str, recorded: str | None, found: str | None, detail: str = "") -> TraceStep:
    """Compare texts that may never have been recorded, or may be gone."""
    if recorded is None:
        return TraceStep(name, NOT_RECORDED, NOTHING, shown(found), detail)
    if found is None:
        return TraceStep(name, GONE, recorded, NOTHING, detail)
    return value_step(name, recorded, found, detail)


def group_step(name: str, parts: Sequence[TraceStep], detail: str = "", **texts: str) -> TraceStep:
    """A step that is sound where all its parts are."""
    status = MATCHES if all(part.is_sound for part in parts) else DIFFERS
    return TraceStep(name, status, detail=detail, children=tuple(parts), **texts)


def values_step(name: str, recorded: Mapping[str, Any], found: Mapping[str, Any], detail: str = "") -> TraceStep:
    """Compare values by name; those that differ become steps."""
    steps = [value_step(key, recorded.get(key), found.get(key)) for key in dict.fromkeys([*recorded, *found])]
    differing = [step for step in steps if not step.is_sound]
    all_of_them = f"{len(steps)} value{'s' * (len(steps) != 1)}"
    counted = all_of_them if not differing else f"{len(differing)} of {all_of_them} not as recorded"
    return group_step(name, differing, f"{counted}. {detail}" if detail else counted)
