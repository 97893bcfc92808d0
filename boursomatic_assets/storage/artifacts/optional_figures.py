"""Stored figures that may be missing, stale or damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from upath import UPath


def read_if_current(path: UPath, experiment_part: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The figures in a file of `JsonIOManager` made under this part of the experiment, or None and the reason."""
    try:
        stored = json.loads(path.read_bytes())
        made_under, value = stored["stamp"]["experiment"], stored["value"]
    except FileNotFoundError:
        return None, "was not made yet"
    except (ValueError, KeyError, TypeError):
        return None, "is damaged"
    return (value, "") if made_under == experiment_part else (None, "was made under another experiment")


def read_json(path: UPath) -> dict[str, Any] | None:
    """Read a JSON object; None if it is missing or no JSON object."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
