"""The manifest of a bundle: what its models learned from, and the digest of each file."""

from __future__ import annotations

from datetime import date  # noqa: TC003 (pydantic reads it)
from typing import Any

from pydantic import BaseModel, ConfigDict

from boursomatic_assets.core.measures.calibration import UNCALIBRATED


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class RecordedFile(_Recorded):
    """A file of the bundle."""

    sha256: str
    bytes: int | None = None


class RecordedSet(_Recorded):
    """One of the three sets of the training panel."""

    content_sha256: str | None = None
    last_session: date | None = None


class RecordedThreshold(_Recorded):
    """The decision rule: p(BUY) from which on a row is called BUY, and the calibration of what people are shown."""

    tau: float | None = None
    temperature: float = UNCALIBRATED
    reason: str = ""


class Manifest(_Recorded):
    """What a bundle records of itself; bundles of earlier versions lack some entries."""

    files: dict[str, RecordedFile]
    version: str | None = None
    # As `Experiment.parse` reads it.
    experiment: Any = None
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    threshold: RecordedThreshold = RecordedThreshold()
    # Symbols of the training panel.
    universe: tuple[str, ...] | None = None
    training_data: dict[str, RecordedSet] = {}
    # Last session of the label panel, and the one in which the last training or tuning label ended.
    known_until: date | None = None
    learned_until: date | None = None
    # Stored panels, as `Snapshot` reads them.
    snapshot: dict[str, Any] | None = None
    snapshot_of_closes: dict[str, Any] | None = None
    code: dict[str, str | None] = {}
    packages: dict[str, str] = {}
    run_id: str | None = None
