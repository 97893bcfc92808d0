"""Recommendations on every active instrument's newest features, made by the active model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.recommendations.calls import recommend
from boursomatic_assets.core.recommendations.snapshots import snapshots
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.core.registry.serving import Serving, servable_rows
from boursomatic_assets.errors import MissingArtifactError, NotEnoughHistoryError, RowsBreakRuleError
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.postgres.candidates import read_bar_provenance, read_candidates
from boursomatic_assets.storage.postgres.model_table import active_version, active_versions
from boursomatic_assets.storage.postgres.recommendations_table import (
    GIVEN_SCHEMA,
    WrittenRows,
    write_recommendations,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.model_table import ModelRow

# Batch size: evidence takes several times more memory as objects than as text.
INSTRUMENTS_AT_ONCE = 1_000
REASONS_IN_A_MESSAGE = 5
TRAIN = "Train one: boursomatic materialize --to model_version"
TRAIN_AGAIN = "Restore it from a backup, or train again: boursomatic materialize --to model_version"


@dataclass(frozen=True)
class RecommendationUpdate:
    """Result of an update of the recommendations.

    `rows` are of `RECOMMENDATION_SCHEMA`, `predictions` as in `Recommended`, `excluded` has `symbol` and `reason`
    of the instruments left out. `content` is a SHA-256 over the digests of all rows.
    """

    version: str
    features: tuple[str, ...]
    rows: pl.DataFrame
    predictions: pl.DataFrame
    excluded: pl.DataFrame
    written: WrittenRows
    content: str


def update_recommendations(
    database: Database, experiment: Experiment, run: Mapping[str, Any], note: Callable[[str], None]
) -> RecommendationUpdate:
    """Recommend on every active instrument with the active model, in one transaction.

    Profiles and language are the experiment's, all else the model's. `run` is kept in the evidence of new rows. On
    any error the earlier recommendations stay active.

    Raises
    ------
    MissingArtifactError, TamperedArtifactError, ModelMismatchError, RowsBreakRuleError
        If there is no single active model whose bundle is as recorded.
    NotEnoughHistoryError
        If no instrument can be recommended.
    """
    active = require_active(database)
    serving = open_serving(active)
    candidates = read_candidates(database)
    rows, excluded = servable_rows(candidates, serving)
    if rows.is_empty():
        raise _nothing_to_serve(excluded)
    note(f"{rows.height:,} instruments with {active.version}, {excluded.height:,} left out")
    provenance = read_bar_provenance(database)
    made = [
        _recommended(rows[start : start + INSTRUMENTS_AT_ONCE], serving, experiment, provenance, run)
        for start in range(0, rows.height, INSTRUMENTS_AT_ONCE)
    ]
    complete, predictions = (pl.concat(frames) for frames in zip(*made, strict=True))
    note(f"writing {complete.height:,} rows")
    given = complete.select(pl.col(name).cast(dtype) for name, dtype in GIVEN_SCHEMA.items())
    written = write_recommendations(database, given, active.version)
    content = sha256("".join(complete["digest"]).encode())
    return RecommendationUpdate(
        version=active.version,
        features=serving.classifier.feature_names,
        rows=complete.drop("features_snapshot", "digest"),
        predictions=predictions,
        excluded=excluded,
        written=written,
        content=content,
    )


def require_active(database: Database) -> ModelRow:
    """The one active model version.

    Raises MissingArtifactError without one or without its digest, RowsBreakRuleError for several.
    """
    marked = active_versions(database)
    if len(marked) > 1:
        message = (
            f"one model version can be active; the table model_versions marks {len(marked)}: {', '.join(marked)}. "
            "Another program must have dropped the rule that forbids it. Nothing was recommended.\n"
            'Unmark all but one in psql "$(boursomatic db url)", then: boursomatic recommend'
        )
        raise RowsBreakRuleError(message)
    active = active_version(database)
    if active is None:
        message = f"no model version is active, so there is nothing to recommend with.\n{TRAIN}"
        raise MissingArtifactError(message)
    if active.manifest_sha256 is None:
        message = (
            f"the active model version {active.version} was recorded by another program, without a digest of its "
            f"manifest: its bundle cannot be verified, and it was not used.\n{TRAIN}"
        )
        raise MissingArtifactError(message)
    return active


def open_active(active: ModelRow) -> Bundle:
    """Open the active version's bundle; raises MissingArtifactError or TamperedArtifactError."""
    try:
        return open_bundle(active.model_path, active.manifest_sha256, active.version)
    except MissingArtifactError as error:
        message = f"the bundle of the active model version {active.version} is missing: {error}.\n{TRAIN_AGAIN}"
        raise MissingArtifactError(message) from error


def open_serving(active: ModelRow) -> Serving:
    """Open the active version's bundle for serving; raises as `open_active`, or ModelMismatchError."""
    return Serving.of(open_active(active))


def _nothing_to_serve(excluded: pl.DataFrame) -> NotEnoughHistoryError:
    if excluded.is_empty():
        message = (
            "no instrument is active, so there is nothing to recommend on.\n"
            "Bring some in: boursomatic materialize --select instruments,price_bars,features"
        )
        return NotEnoughHistoryError(message)
    listed = "".join(
        f"\n  {symbol}: {reason}" for symbol, reason in excluded.head(REASONS_IN_A_MESSAGE).iter_rows()
    )
    more = excluded.height - REASONS_IN_A_MESSAGE
    message = (
        f"none of the {excluded.height:,} active instruments can be recommended:{listed}"
        + (f"\n  and {more:,} more" if more > 0 else "")
        + "\nBring prices and features up to date: boursomatic materialize --select price_bars,features"
    )
    return NotEnoughHistoryError(message)


def _recommended(
    rows: pl.DataFrame,
    serving: Serving,
    experiment: Experiment,
    provenance: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Recommendations of some instruments with justification and evidence, and their predictions."""
    recommended = recommend(rows, serving, experiment.profiles)
    evidence = snapshots(recommended, serving, experiment.profiles, provenance)
    texts = {
        "justification": [entry["justification"][experiment.language] for entry in evidence],
        # Keys stay in their order, which suits people; no spaces, because the text is long.
        "features_snapshot": [
            json.dumps({**entry, "run": dict(run)}, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            for entry in evidence
        ],
        "digest": [entry["digest"] for entry in evidence],
    }
    complete = recommended.rows.with_columns(pl.Series(name, own, pl.String) for name, own in texts.items())
    return complete, recommended.predictions
