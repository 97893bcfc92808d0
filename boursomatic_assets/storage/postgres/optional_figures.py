"""Figures that may be stored or not: read where they are there and current, else with the reason why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from upath import UPath


def read_if_current(path: UPath, experiment_part: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Read the figures of an asset, if they were made under the experiment in use.

    Parameters
    ----------
    path : UPath
        File as `JsonIOManager` writes it.
    experiment_part : mapping
        Part of the experiment that shapes the asset.

    Returns
    -------
    tuple of (dict or None, str)
        The figures, or None and why they cannot be used.
    """
    try:
        stored = json.loads(path.read_bytes())
        made_under, value = stored["stamp"]["experiment"], stored["value"]
    except FileNotFoundError:
        return None, "was not made yet"
    except (ValueError, KeyError, TypeError):
        return None, "is damaged"
    return (value, "") if made_under == experiment_part else (None, "was made under another experiment")


def read_json(path: UPath) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
