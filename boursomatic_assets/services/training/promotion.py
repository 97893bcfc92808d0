"""Promotion: score the new and the active version, let the gate decide, write the row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.registry.contenders import Contender, Unscored
from boursomatic_assets.core.registry.gate import GateDecision, decide
from boursomatic_assets.errors import (
    ActiveModelChangedError,
    ConfigurationError,
    MissingArtifactError,
    ModelMismatchError,
    TamperedArtifactError,
)
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, record_version
from boursomatic_assets.storage.postgres.panels import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.storage.postgres.database import Database


def decide_and_record(  # noqa: PLR0913 (what is decided on, and how it is recorded)
    database: Database,
    row: ModelRow,
    test_rows: pl.DataFrame,
    labels: pl.DataFrame,
    experiment: Experiment,
    *,
    who: str,
    beforehand: Callable[[], object],
) -> GateDecision:
    """Compare a stored version with the active one on its judged test rows, and record it with the decision.

    `who` and `beforehand` are as in `record_version`.
    """
    # Read back from storage: the gate scores what will be served.
    challenger = Contender.of(open_bundle(row.model_path, row.manifest_sha256, row.version), labels)
    champion = _champion(active_version(database), labels)
    rows = _with_columns(database, test_rows, challenger, champion)
    decision = decide(challenger, champion, rows, experiment)
    decided = replace(row, is_active=decision.promoted, gate=decision)
    try:
        record_version(
            database, decided, who=who, why=decision.reason, champion=decision.champion, beforehand=beforehand
        )
    except ActiveModelChangedError:
        # Another version became active meanwhile: compare with that one.
        return decide_and_record(database, row, test_rows, labels, experiment, who=who, beforehand=beforehand)
    return decision


def _champion(active: ModelRow | None, labels: pl.DataFrame) -> Contender | Unscored | None:
    if active is None:
        return None
    if active.manifest_sha256 is None:
        return Unscored(active.version, "another program recorded it, without a bundle of this one")
    try:
        return Contender.of(open_bundle(active.model_path, active.manifest_sha256, active.version), labels)
    except (MissingArtifactError, TamperedArtifactError, ModelMismatchError, ConfigurationError) as error:
        # A version that cannot be scored cannot be served either.
        return Unscored(active.version, str(error).splitlines()[0].rstrip("."))


def _with_columns(
    database: Database, test_set: pl.DataFrame, challenger: Contender, champion: Contender | Unscored | None
) -> pl.DataFrame:
    """The test set with the stored or derived inputs that only the champion reads."""
    columns = [*challenger.columns, *(champion.columns if isinstance(champion, Contender) else [])]
    missing = sorted(set(columns) - set(test_set.columns))
    if not missing:
        return test_set
    selection = Selection(symbols=test_set["symbol"].unique().sort().to_list(), since=test_set["session"].min())  # type: ignore[arg-type]
    stored = [name for name in table_columns(missing) if name not in test_set.columns]
    found = (
        test_set.join(read_features(database, stored, selection), on=PANEL_KEY, how="left") if stored else test_set
    )
    return with_derived_inputs(found, missing)
