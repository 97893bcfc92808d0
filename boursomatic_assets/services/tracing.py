"""What a trace compares, fetched from where it lies: database, bundle, snapshots, Dagster's own record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
from dagster import AssetKey, DagsterEventType
from upath import UPath

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.recommendations.evidence import Evidence, is_of_this_platform
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.core.registry.serving import Serving
from boursomatic_assets.core.trace.bars import adjustments_step, bars_step, features_at, features_step
from boursomatic_assets.core.trace.recomputation import (
    bundle_step,
    call_step,
    code_step,
    prediction_step,
    run_step,
    snapshot_step,
    training_data_step,
)
from boursomatic_assets.core.trace.tree import (
    DIFFERS,
    GONE,
    NOT_RECORDED,
    Trace,
    TraceStep,
    gathered,
    vouched,
)
from boursomatic_assets.errors import (
    BoursomaticError,
    MissingArtifactError,
    UnknownRecommendationError,
)
from boursomatic_assets.storage.artifacts.bundles import code_revision, package_versions
from boursomatic_assets.storage.artifacts.files import read_folder
from boursomatic_assets.storage.artifacts.snapshots import Snapshot
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.bar_history import (
    CHANGE_SCHEMA,
    bars_now,
    bars_then,
    changes_since,
    content_then,
    content_until,
)
from boursomatic_assets.storage.postgres.market_tables import read_features
from boursomatic_assets.storage.postgres.panels import Part
from boursomatic_assets.storage.postgres.recommendations_table import find_recommendation
from boursomatic_assets.storage.postgres.tables import KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster import DagsterInstance

    from boursomatic_assets.core.trace.recomputation import FoundBundle
    from boursomatic_assets.storage.postgres.database import Database

# Every bar there was, also those that were filled in after the session.
_FOR_EVER = date(9999, 12, 31)
_FACTS = (
    "id", "symbol", "session", "profile", "label", "confidence", "expected_return_pct", "horizon_days", "stop_loss",
    "take_profit", "justification", "version", "generated_at", "is_active",
)  # fmt: skip
USUAL_PROFILE = "moderate"


def choose_recommendation(
    database: Database, wanted: str, session: date | None = None, profile: str | None = None
) -> dict[str, Any]:
    """Find the recommendation that somebody means.

    Parameters
    ----------
    database : Database
    wanted : str
        An id, or a symbol.
    session : date, optional
        With a symbol: of which session; the active one without.
    profile : str, optional
        With a symbol: moderate without.

    Returns
    -------
    dict
        As `find_recommendation` gives it; the newest where a session has several.

    Raises
    ------
    UnknownRecommendationError
        If there is none.
    """
    found = find_recommendation(database, wanted, session)
    # An id names one row, whatever its profile.
    named = [row for row in found if row["id"] == wanted.lower() and profile in {None, row["profile"]}]
    chosen = named or [row for row in found if row["profile"] == (profile or USUAL_PROFILE)]
    if chosen:
        return chosen[0]
    which = f"of {session}" if session else "that is active; for a session that has passed add --session"
    others = ", ".join(dict.fromkeys(row["profile"] for row in found)) or "none of any profile"
    message = (
        f"there is no recommendation {wanted!r} {which} (profile {profile or USUAL_PROFILE}; there is: {others}).\n"
        "See what there is: boursomatic recommendations"
    )
    raise UnknownRecommendationError(message)


def trace_recommendation(database: Database, instance: DagsterInstance, recommendation: str) -> Trace:
    """Follow one recommendation back to the bars, and compute each step anew.

    Parameters
    ----------
    database : Database
    instance : DagsterInstance
    recommendation : str
        Its id.

    Raises
    ------
    UnknownRecommendationError
    """
    return trace_row(database, instance, choose_recommendation(database, recommendation))


def trace_row(database: Database, instance: DagsterInstance, row: Mapping[str, Any]) -> Trace:
    """Follow a recommendation back, as `choose_recommendation` gives it."""
    facts = {name: _plain(row[name]) for name in _FACTS}
    evidence = Evidence.of(row["snapshot"])
    if isinstance(evidence, str):
        status = DIFFERS if is_of_this_platform(row["snapshot"]) else NOT_RECORDED
        return Trace(facts, TraceStep("recommendation", status, detail=evidence))
    parts = [
        snapshot_step(evidence),
        call_step(row, evidence),
        _prediction(instance, row, evidence),
        _features(database, row, evidence),
        _writing_run(instance, evidence),
    ]
    return Trace(facts, gathered("recommendation", parts, f"{row['symbol']}, {row['profile']}, {evidence.session}"))


def _plain(value: object) -> object:
    """A value as JSON knows it."""
    return value.isoformat() if isinstance(value, date) else value


def _prediction(instance: DagsterInstance, row: Mapping[str, Any], evidence: Evidence) -> TraceStep:
    """What the models say of the recorded features today, above the bundle that they come from."""
    found = bundle_step(row, evidence, _files(row["model_path"]))
    origin = _origin(instance, row, found)
    bundle = replace(found.step, children=(*found.step.children, *origin))
    made = _predicted(row, evidence, found)
    return replace(made, children=(*made.children, bundle))


def _predicted(row: Mapping[str, Any], evidence: Evidence, found: FoundBundle) -> TraceStep:
    if found.bundle is None:
        return TraceStep(
            "prediction", GONE, detail="cannot be made again: the models are not those that were recorded"
        )
    try:
        return prediction_step(row["symbol"], evidence, Serving.of(found.bundle))
    except BoursomaticError as error:
        return TraceStep("prediction", DIFFERS, detail=str(error))


def _files(folder: str) -> dict[str, bytes] | None:
    try:
        return read_folder(UPath(folder)) if folder else None
    except (MissingArtifactError, OSError):
        return None


def _origin(instance: DagsterInstance, row: Mapping[str, Any], found: FoundBundle) -> list[TraceStep]:
    """Run, code and data that the bundle came from, as far as its manifest can be believed."""
    if not found.manifest:
        return []
    run_id = found.manifest.get("run_id")
    said = {"version": row["version"], "manifest_sha256": row["manifest_sha256"]}
    then = {**found.manifest.get("code", {}), **found.manifest.get("packages", {})}
    return [
        run_step("training run", run_id, _recorded_run(instance, run_id, "model_version"), said),
        code_step(then, {**code_revision(), **package_versions()}),
        training_data_step(found.manifest, _training_data(row["model_path"], found.manifest)),
    ]


def _training_data(folder: str, manifest: Mapping[str, Any]) -> str | None:
    try:
        # Beside the bundle, wherever new artifacts go today.
        path = Snapshot.named_by(manifest).path_in(UPath(folder).parent.parent)
        return sha256(path.read_bytes())
    except (MissingArtifactError, OSError, TypeError):
        return None


def _writing_run(instance: DagsterInstance, evidence: Evidence) -> TraceStep:
    run_id = evidence.run.get("run_id")
    step = run_step("recommending run", run_id, _recorded_run(instance, run_id, "recommendations"), {})
    return replace(step, children=(*step.children, code_step(evidence.run.get("code") or {}, code_revision())))


def _recorded_run(instance: DagsterInstance, run_id: str | None, asset: str | None) -> dict[str, Any] | None:
    """The status of a run, and what it recorded with an asset; None where Dagster does not know the run."""
    run = instance.get_run_by_id(run_id) if run_id else None
    if run is None:
        return None
    events = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    made = [entry.event_log_entry.asset_materialization for entry in events]
    wanted = [entry for entry in made if entry is not None and asset and entry.asset_key == AssetKey(asset)]
    said = {name: value.value for entry in wanted for name, value in entry.metadata.items()}
    return {**said, "status": run.status.value}


@dataclass(frozen=True)
class _History:
    """The bars behind a recommendation, then and now.

    Attributes
    ----------
    content : str
        What those up to the session sum up to now.
    changes : DataFrame
        Of `CHANGE_SCHEMA`.
    moment : datetime or None
        At which they were what was recorded, where changes had to be undone to find it.
    is_same : bool
        Whether those up to the session are what they were.
    """

    content: str
    changes: pl.DataFrame
    moment: datetime | None = None
    is_same: bool = False

    @property
    def is_restored(self) -> bool:
        """Whether undoing changes gives what was recorded."""
        return self.moment is not None


def _features(database: Database, row: Mapping[str, Any], evidence: Evidence) -> TraceStep:
    """The row of features: as stored, as the bars of then give it, and the bars and adjustments themselves."""
    symbol, session = row["symbol"], evidence.session
    history = _history(database, row, evidence)
    now = bars_now(database, symbol, session)
    then = now if history.moment is None else bars_then(database, symbol, session, history.moment)
    entered = _adjustments(database, symbol)
    noted = entered if evidence.bars.adjustments is None else evidence.bars.adjustments
    exchange = evidence.bars.exchange or row["exchange"]
    has_other_bars = evidence.content is not None and not history.is_same
    has_changed = has_other_bars or (noted, exchange) != (entered, row["exchange"])
    # Without bars of then, or of now, there is nothing that would have to follow from them.
    today = (features_at(now, row["exchange"], entered, session) or {}) if has_changed else None
    parts = [
        features_step(
            "stored row", evidence, _stored(database, symbol, session), "The table features", today=today
        ),
        _computed_again(evidence, history, features_at(then, exchange, noted, session)),
    ]
    if today is not None:
        detail = "From the bars and adjustments of now"
        parts.append(features_step("computed today", evidence, today or None, detail, today=today))
    recorded = evidence.content
    bars = bars_step(
        recorded, history.content, history.changes, is_same=history.is_same, is_restored=history.is_restored
    )
    which = "whose calendar the bars are read by"
    origin = [
        bars,
        adjustments_step(evidence.bars.adjustments, entered),
        vouched("exchange", evidence.bars.exchange, row["exchange"], which),
    ]
    return gathered("features", [*parts, *origin])


def _computed_again(evidence: Evidence, history: _History, found: Mapping[str, Any] | None) -> TraceStep:
    name = "computed again"
    if evidence.content is not None and not (history.is_same or history.is_restored):
        return TraceStep(name, GONE, detail="the bars of then are not on record")
    which = "bars as they are" if evidence.content is None else "bars of then"
    return features_step(name, evidence, found, f"From the {which} and the adjustments of then")


def _history(database: Database, row: Mapping[str, Any], evidence: Evidence) -> _History:
    symbol, session, recorded = row["symbol"], evidence.session, evidence.content
    content = content_until(database, symbol, session)
    nothing = pl.DataFrame(schema=CHANGE_SCHEMA)
    if recorded is None or content == recorded:
        return _History(content, nothing, is_same=recorded is not None)
    for moment in _moments(database, row, session):
        # All bars there were, also those that a source had filled in after the session.
        if content_then(database, symbol, _FOR_EVER, moment) == recorded:
            changes = changes_since(database, symbol, session, moment)
            return _History(recorded if changes.is_empty() else content, changes, moment, changes.is_empty())
    return _History(content, changes_since(database, symbol, session, row["generated_at"]))


def _moments(database: Database, row: Mapping[str, Any], session: date) -> list[datetime]:
    """When the features may have been computed: bars can have changed between that and the recommendation."""
    known = database.read(
        f"WITH {KEYS} SELECT f.created_at AS moment FROM features f JOIN keys k ON k.id = f.instrument_id "  # noqa: S608
        "WHERE k.symbol = $1 AND f.ts = $2::text::timestamp "
        "UNION SELECT computed_at FROM feature_state WHERE symbol = $1",
        [row["symbol"], session.isoformat()],
    )["moment"].to_list()
    written: datetime = row["generated_at"]
    return [written, *sorted((moment for moment in known if moment < written), reverse=True)]


def _adjustments(database: Database, symbol: str) -> list[tuple[date, float]]:
    with database.bulk() as cursor:
        entered = read_corrections(cursor).adjustments.filter(pl.col("symbol") == symbol)
    return list(entered.select("session", "ratio").iter_rows())


def _stored(database: Database, symbol: str, session: date) -> dict[str, float | None] | None:
    part = Part(symbols=[symbol], since=session)
    found = read_features(database, FEATURE_NAMES, part).filter(pl.col("session") == session)
    return found.select(FEATURE_NAMES).row(0, named=True) if found.height else None
