"""Folds of the walk-forward: one Parquet file each, and the names of their partitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.models.folds import FoldFacts
from boursomatic_assets.errors import ConfigurationError, MissingArtifactError, StaleInputError
from boursomatic_assets.storage.artifacts.files import read_whole, write_whole
from boursomatic_assets.storage.artifacts.recorded import RecordedFile, file_record
from boursomatic_assets.storage.artifacts.stamps import from_parquet, refuse_stale, stamp_for, to_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from upath import UPath

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.models.walk_forward import FoldResult

ASSET = "walk_forward"
_AGAIN = f"boursomatic materialize --select '{ASSET}+'"


def fold_key(number: int) -> str:
    """Name of a fold's partition, such as `fold_03`."""
    return f"fold_{number:02d}"


def fold_keys(count: int) -> list[str]:
    """Names of all partitions, in time order."""
    return [fold_key(number) for number in range(1, count + 1)]


def fold_number(key: str, count: int) -> int:
    """Number of the fold of a partition; raises ConfigurationError if the experiment has none."""
    keys = fold_keys(count)
    if key in keys:
        return keys.index(key) + 1
    message = (
        f"there is no {key} among the {count} folds of the experiment ({keys[0]} to {keys[-1]}). Remove partitions "
        f"beyond them: boursomatic materialize --select {ASSET} --folds {count}\n"
        "or have more folds: walk_forward.folds in the Launchpad's experiment, or --folds"
    )
    raise ConfigurationError(message)


def fold_path(artifacts: UPath, number: int) -> UPath:
    """File of a fold."""
    return artifacts / "assets" / ASSET / f"{fold_key(number)}.parquet"


def save_fold(artifacts: UPath, result: FoldResult, experiment: Experiment, labels_version: str) -> dict[str, Any]:
    """Store a fold with experiment, version of the labels and training facts; returns what to record of it."""
    stamp = {**stamp_for(ASSET, experiment), "labels": labels_version, "fold": result.facts.to_json()}
    path, content = fold_path(artifacts, result.facts.fold), to_parquet(result.panel, stamp)
    write_whole(path, content)
    return file_record(path, content)


def earlier_record(content: bytes) -> dict[str, object]:
    """What earlier versions recorded of a fold's file: its size."""
    return {"bytes": len(content)}


@dataclass(frozen=True)
class StoredFolds:
    """All folds in time order: predictions by fold number, facts, and the labels' version of each."""

    panels: dict[int, pl.DataFrame]
    facts: tuple[FoldFacts, ...]
    labels: tuple[str, ...]

    def require_labels(self, labels: pl.DataFrame) -> None:
        """Stop if a fold was made from other labels; raises StaleInputError, which names the folds."""
        version = fingerprint(labels)
        others = [
            fold.fold for fold, made_from in zip(self.facts, self.labels, strict=True) if made_from != version
        ]
        if others:
            message = (
                f"{', '.join(map(fold_key, others))} of {ASSET} were made from other labels than those stored "
                f"now.\nMaterialize the folds again: {_AGAIN} --folds {len(self.facts)}"
            )
            raise StaleInputError(message)


def load_folds(
    artifacts: UPath,
    experiment: Experiment,
    recorded: Callable[[str], RecordedFile],
    columns: Sequence[str] | None = None,
) -> StoredFolds:
    """Read every fold; `recorded` gives the record of each by its key.

    Raises MissingArtifactError, StaleInputError or TamperedArtifactError.
    """
    numbers = range(1, experiment.walk_forward.folds + 1)
    missing = [fold_key(number) for number in numbers if not fold_path(artifacts, number).exists()]
    if missing:
        message = (
            f"of the {len(numbers)} folds of {ASSET} these were never stored: {', '.join(missing)}.\n"
            f"Materialize all of them: {_AGAIN} --folds {len(numbers)}, or these partitions in the UI"
        )
        raise MissingArtifactError(message)
    panels, stamps = {}, []
    for number in numbers:
        path = fold_path(artifacts, number)
        content = read_whole(path, fold_key(number))
        recorded(fold_key(number)).require(path, content, partial(earlier_record, content))
        panels[number], stamp = from_parquet(content, ASSET, columns)
        refuse_stale(ASSET, stamp, experiment)
        stamps.append(stamp)
    facts = tuple(facts_from_json(stamp["fold"]) for stamp in stamps)
    return StoredFolds(panels, facts, tuple(stamp["labels"] for stamp in stamps))


def facts_from_json(values: dict[str, Any]) -> FoldFacts:
    """Inverse of `FoldFacts.to_json`."""
    typed: dict[str, Any] = {
        name: value if isinstance(value, int) else date.fromisoformat(value) for name, value in values.items()
    }
    return FoldFacts(**typed)
