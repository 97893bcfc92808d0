"""Stored figures that may be missing, stale, damaged or altered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from upath import UPath

from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.files import read_whole
from boursomatic_assets.storage.artifacts.recorded import RecordedFile
from boursomatic_assets.storage.artifacts.stamps import figures_version, from_json


def read_if_current(
    path: UPath, experiment_part: Mapping[str, Any], recorded: Callable[[], RecordedFile]
) -> tuple[dict[str, Any] | None, str]:
    """The figures of a `JsonIOManager` made under this part of the experiment, or None and the reason.

    `recorded` gives the record of the file, or raises MissingArtifactError.
    """
    try:
        record = recorded()
        content = read_whole(path, record.name)
        record.require(path, content, partial(figures_version, content, record.name))
        value, stamp = from_json(content, record.name)
        made_under = stamp["experiment"]
    except MissingArtifactError:
        return None, "was not made yet"
    except (TamperedArtifactError, KeyError, TypeError):
        return None, "is damaged or was altered"
    return (value, "") if made_under == experiment_part else (None, "was made under another experiment")


def read_json(path: UPath, recorded: Callable[[], RecordedFile]) -> dict[str, Any] | None:
    """Read a recorded JSON object; None if it is missing, altered, not recorded, or no JSON object."""
    try:
        record = recorded()
        content = read_whole(path, record.name)
        record.require(path, content, dict)
        found = json.loads(content)
    except (MissingArtifactError, ValueError):
        return None
    return found if isinstance(found, dict) else None
