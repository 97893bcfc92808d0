"""The Dagster instance: its home folder, and its storage in a separate schema of the database."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fasteners
import sqlalchemy as sa
from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    EventLogEntry,
)
from upath import UPath

from boursomatic_assets.core.dataset.experiment import WalkForward
from boursomatic_assets.errors import ArtifactWriteError, ConfigurationError, MissingArtifactError, StorageError
from boursomatic_assets.settings import chosen_instance, wait_briefly
from boursomatic_assets.storage.artifacts.files import write_whole
from boursomatic_assets.storage.artifacts.folds import fold_keys
from boursomatic_assets.storage.postgres.session import session_url
from boursomatic_assets.storage.postgres.tables import DAGSTER_SCHEMA
from boursomatic_assets.storage.private import close_file, hide_from_others, make_home, make_own_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

SCHEMA = DAGSTER_SCHEMA
URL_VARIABLE = "BOURSOMATIC_DAGSTER_URL"
RECENT_EVALUATIONS = 50
# Pooled connections: Dagster would otherwise connect about 900 times per training. They are recycled after
# `KEPT_SECONDS`, so that a restarted server is found again.
KEPT_SECONDS, MOST_CONNECTIONS = 1, 20
POOLING = {"statement_timeout": 0, "pool_recycle": KEPT_SECONDS, "max_overflow": MOST_CONNECTIONS}
# Dagster's tags for the data versions of an asset and of its inputs.
DATA_VERSION_TAG = "dagster/data_version"
INPUT_DATA_VERSION_TAG_PREFIX = "dagster/input_data_version"
# Metadata key of `metrics`: version of the closes behind its books.
CLOSES_VERSION = "closes_sha256"
# Name of the walk-forward's dynamic partitions.
FOLD_PARTITIONS = "walk_forward_folds"
# Dagster's tags for the partitions of a run.
ASSET_PARTITION_RANGE_START_TAG = "dagster/asset_partition_range_start"
ASSET_PARTITION_RANGE_END_TAG = "dagster/asset_partition_range_end"


def own_folder(settings: Settings) -> Path:
    """Folder of the product's own Dagster instance."""
    return settings.home / "dagster"


def is_own(instance: DagsterInstance, settings: Settings) -> bool:
    """Whether an instance is the product's own, not one that other code locations share."""
    return Path(instance.root_directory) == own_folder(settings)


def users_instance(settings: Settings) -> Path | None:
    """Folder of the Dagster instance that the user chose by `DAGSTER_HOME`, None for the product's own.

    Raises ConfigurationError if it is no folder: Dagster would look for its configuration elsewhere.
    """
    chosen = chosen_instance()
    if chosen is None or chosen == own_folder(settings):
        return None
    if not chosen.is_dir():
        message = f"DAGSTER_HOME must be an existing folder; found {chosen}. Unset it to use our own instance"
        raise ConfigurationError(message)
    return chosen


def prepare_instance(settings: Settings, database: Database) -> Path:
    """Prepare the instance's folder and the environment of this process; returns `DAGSTER_HOME`.

    An existing `dagster.yaml` is kept, and another instance than the product's own is left as it is. New files are
    private to their user. Dagster's `alembic_version` lives in its own schema, apart from other programs'.
    """
    hide_from_others()
    wait_briefly()
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    # For matplotlib's font cache.
    os.environ.setdefault("MPLCONFIGDIR", str(settings.home / "matplotlib"))
    if chosen := users_instance(settings):
        os.environ["DAGSTER_HOME"] = str(chosen)
        return chosen
    home = own_folder(settings)
    try:
        make_home(settings.home)
        make_own_folder(home)
        configuration = home / "dagster.yaml"
        # It names classes to load, so others must not write it.
        close_file(configuration)
        if not configuration.exists():
            packaged = resources.files("boursomatic_assets.storage.dagster").joinpath("dagster.yaml")
            # Atomically: from a half-written file Dagster would choose another storage.
            write_whole(UPath(str(configuration)), packaged.read_bytes())
    except OSError as error:
        message = f"{home} cannot be written: {error.strerror}. Choose another folder: BOURSOMATIC_HOME"
        raise ArtifactWriteError(message) from error
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ[URL_VARIABLE] = instance_url(database)
    return home


def instance_url(database: Database) -> str:
    """Address of the instance's storage: the same database with its own search path."""
    url = session_url(database.url, search_path=SCHEMA).set(drivername="postgresql+psycopg2")
    return url.render_as_string(hide_password=False)


def open_instance(settings: Settings, database: Database) -> DagsterInstance:
    """Open the instance; create the storage of the product's own the first time.

    Two processes that create it at once can corrupt it, so that they take turns.
    """
    home = prepare_instance(settings, database)
    is_ours = home == own_folder(settings)
    instance = _own_instance(home, database) if is_ours else DagsterInstance.from_config(str(home))
    if not instance.get_dynamic_partitions(FOLD_PARTITIONS):
        register_folds(instance, WalkForward().folds)
    return instance


def _own_instance(home: Path, database: Database) -> DagsterInstance:
    with fasteners.InterProcessLock(home / "instance.lock"):
        try:
            with database.engine.begin() as connection:
                # CREATE SCHEMA IF NOT EXISTS needs the right to create even if the schema exists.
                if connection.execute(sa.text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
                    connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
        except sa.exc.ProgrammingError as error:
            message = (
                f"the role may not create the schema {SCHEMA!r}, which keeps Dagster's own tables: {error.orig}"
                f"\nAsk an administrator for: CREATE SCHEMA {SCHEMA} AUTHORIZATION <role>"
            )
            raise StorageError(message) from None
        instance = DagsterInstance.from_config(str(home))
        instance.optimize_for_webserver(**POOLING)
        instance.get_runs_count()
    return instance


def register_folds(instance: DagsterInstance, count: int) -> dict[str, str]:
    """Name the partitions of the walk-forward in order; returns the tags of a run over all of them."""
    known, wanted = list(instance.get_dynamic_partitions(FOLD_PARTITIONS)), fold_keys(count)
    kept = known[:count] if known[:count] == wanted[: len(known)] else []
    # A range follows the order of creation, so all keys after a gap are created again.
    for key in known:
        if key not in kept:
            instance.delete_dynamic_partition(FOLD_PARTITIONS, key)
    if missing := wanted[len(kept) :]:
        instance.add_dynamic_partitions(FOLD_PARTITIONS, missing)
    return {ASSET_PARTITION_RANGE_START_TAG: wanted[0], ASSET_PARTITION_RANGE_END_TAG: wanted[-1]}


class UnmetCheck(NamedTuple):
    """Why a required check is not met: it failed, or nobody has evaluated it on the stored values."""

    reason: str
    has_failed: bool = False


def unmet_checks(
    instance: DagsterInstance, run_id: str | None, checks: Mapping[AssetCheckKey, Sequence[AssetKey]]
) -> dict[AssetCheckKey, UnmetCheck]:
    """Required checks that the stored assets do not meet.

    `checks` maps a check to the other assets that it reads. A result of the run counts; otherwise the newest
    completed one, if none of its assets was materialized since. A check of an asset never materialized here is
    skipped.
    """
    unmet = {key: _unmet(instance, run_id, key, others) for key, others in checks.items()}
    return {key: reason for key, reason in unmet.items() if reason}


def _unmet(
    instance: DagsterInstance, run_id: str | None, key: AssetCheckKey, others: Sequence[AssetKey]
) -> UnmetCheck | None:
    if instance.get_latest_materialization_event(key.asset_key) is None:
        return None
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=RECENT_EVALUATIONS)
    completed = [
        (record.run_id, event.timestamp, event.asset_check_evaluation.passed)
        for record in history
        if (event := record.event) and event.asset_check_evaluation
    ]
    if not completed:
        return UnmetCheck("never evaluated")
    own = [result for result in completed if result[0] == run_id]
    evaluated_in, moment, passed = (own or completed)[0]
    if not passed:
        return UnmetCheck(f"failed in run {evaluated_in}", has_failed=True)
    for asset in () if own else (key.asset_key, *others):
        materialized = instance.get_latest_materialization_event(asset)
        if materialized is not None and moment < materialized.timestamp:
            return UnmetCheck(f"not evaluated since {asset.to_user_string()} was materialized last")
    return None


def recorded_metadata(instance: DagsterInstance, run_id: str, asset: str) -> dict[str, Any]:
    """Metadata of an asset's materialization in this run, else the newest; raises MissingArtifactError if none."""
    return {name: entry.value for name, entry in materialization_of(instance, run_id, asset).metadata.items()}


def outdated_inputs(
    instance: DagsterInstance, run_id: str, inputs: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Assets built from inputs that have changed since, with these inputs.

    `inputs` maps an asset to its upstream assets.
    """
    names = {name for asset, upstream in inputs.items() for name in (asset, *upstream)}
    tags = {name: materialization_of(instance, run_id, name).tags or {} for name in names}
    changed = {
        asset: [
            name
            for name in upstream
            if tags[asset].get(f"{INPUT_DATA_VERSION_TAG_PREFIX}/{name}") != tags[name].get(DATA_VERSION_TAG)
        ]
        for asset, upstream in inputs.items()
    }
    return {asset: upstream for asset, upstream in changed.items() if upstream}


def materialization_of(
    instance: DagsterInstance, run_id: str | None, asset: str, partition: str | None = None
) -> AssetMaterialization:
    """Materialization of an asset, or of a partition, in this run, else the newest; raises MissingArtifactError."""
    key = AssetKey(asset)
    entry = _newest(instance, key, partition)
    if entry is not None and run_id is not None and entry.run_id != run_id:
        found = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
        own = [
            record.event_log_entry
            for record in found
            if record.asset_key == key and partition in {None, record.partition_key}
        ]
        entry = own[-1] if own else entry
    if entry is None or entry.asset_materialization is None:
        what = f"{partition} of {asset}" if partition else asset
        message = f"{what} was never materialized here: boursomatic materialize --select {asset}"
        raise MissingArtifactError(message)
    return entry.asset_materialization


def _newest(instance: DagsterInstance, key: AssetKey, partition: str | None) -> EventLogEntry | None:
    if partition is None:
        return instance.get_latest_materialization_event(key)
    of_partition = AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    records = instance.fetch_materializations(of_partition, limit=1).records
    return records[0].event_log_entry if records else None
