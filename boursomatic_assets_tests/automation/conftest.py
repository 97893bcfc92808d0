"""An instance with its database, and a stand-in for the daemon that ends runs when a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.dagster.instance import URL_VARIABLE, instance_url, open_instance
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, record_version
from boursomatic_assets_tests.conftest import environment_at, fresh_database, upgraded
from boursomatic_assets_tests.support.catalog import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from boursomatic_assets.storage.postgres.database import Database

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
INPUTS = {
    "price_bars": [],
    "features": ["price_bars"],
    "model_version": ["features"],
    "recommendations": ["features", "model_version"],
    "outcomes": ["recommendations", "price_bars"],
    "drift": ["features", "model_version"],
}
_MODEL = FittedModel(text="none", pickled=b"", feature_names=("ret_1d",), class_names=())


@dataclass
class Bench:
    """An instance, its database, and a daemon that is only there when it is asked to be."""

    instance: dg.DagsterInstance
    database: Database
    artifacts: Path
    cursors: dict[str, str | None] = field(default_factory=dict)

    def tick(self, sensor: dg.SensorDefinition) -> dg.RunRequest | str:
        """Evaluate a sensor once: the run that it asks for, or why it asks for none."""
        context = dg.build_sensor_context(self.instance, cursor=self.cursors.get(sensor.name))
        found = sensor.evaluate_tick(context)
        if found.cursor is not None:
            self.cursors[sensor.name] = found.cursor
        if found.run_requests:
            (request,) = found.run_requests
            return request
        assert found.skip_message
        return found.skip_message

    def requested(self, sensor: dg.SensorDefinition) -> dg.RunRequest:
        """Evaluate a sensor that must ask for a run."""
        found = self.tick(sensor)
        assert isinstance(found, dg.RunRequest), found
        return found

    def skipped(self, sensor: dg.SensorDefinition) -> str:
        """Evaluate a sensor that must not ask for one."""
        found = self.tick(sensor)
        assert isinstance(found, str), found
        return found

    def launch(self, request: dg.RunRequest, job: str, *assets: str) -> str:
        """Launch a run that has not begun yet; its id."""
        made = self.instance.create_run_for_job(
            _stand_in(job, dict.fromkeys(assets, "not yet")), tags={**request.tags}
        )
        return made.run_id

    def finish(self, run_id: str, versions: Mapping[str, str], **values: str | float) -> None:
        """Let a launched run materialize what it was made for."""
        launched = self.instance.get_run_by_id(run_id)
        assert launched is not None
        self.instance.delete_run(run_id)
        _stand_in(launched.job_name, versions, **values).execute_in_process(
            QUIET, instance=self.instance, run_id=run_id, tags=launched.tags
        )

    def make(self, versions: Mapping[str, str], **values: str | float) -> None:
        """Materialize assets by hand, each with a data version; metadata is the same for all."""
        _stand_in("by_hand", versions, **values).execute_in_process(QUIET, instance=self.instance)

    def bring(self, version: str, rows: int = 0) -> int:
        """Materialize `price_bars`; the event's number."""
        made = dg.AssetMaterialization(
            "price_bars", metadata={"rows_inserted": rows}, tags={"dagster/data_version": version}
        )
        self.instance.report_runless_asset_event(made)
        return self.instance.fetch_materializations(dg.AssetKey("price_bars"), limit=1).records[0].storage_id

    def judge(self, *assets: str, fails: str | None = None) -> None:
        """Evaluate the blocking checks of assets: all pass, but for one."""
        for key in REQUIRED_CHECKS:
            if key.asset_key.path[-1] in assets:
                self.instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        asset_key=key.asset_key, check_name=key.name, passed=key.name != fails, metadata={}
                    )
                )

    def trade(self, sessions: Sequence[date]) -> None:
        """Store rows of features on these sessions, of one instrument."""
        values = ", ".join(f"('{session}'::timestamp)" for session in sessions)
        run(
            self.database,
            "INSERT INTO features (id, instrument_id, ts, created_at) "  # noqa: S608
            f"SELECT gen_random_uuid(), i.id, d.ts, now() FROM instruments i, (VALUES {values}) d (ts)",
        )

    def train(
        self,
        until: date | None,
        experiment: Experiment = Experiment(),  # noqa: B008 (frozen)
        *,
        known: date | None = None,
    ) -> str:
        """Record an active version that knew labels up to a session, and features up to another one."""
        moment = datetime.now(UTC).replace(tzinfo=None)
        data = {} if until is None else {"test_set": {"last_session": str(until)}}
        features = {} if known is None else {"known_until": str(known)}
        version, folder, digest = save_bundle(
            UPath(self.artifacts),
            moment,
            lambda version: build_bundle(
                _MODEL,
                _MODEL,
                {},
                pl.DataFrame({"feature": ["ret_1d"]}),
                {"version": version, "training_data": data, **features},
            ),
        )
        before = active_version(self.database)
        row = ModelRow(version, moment, experiment.params_hash, {}, str(folder), digest)
        record_version(
            self.database, row, who="test", why="trained", champion=None if before is None else before.version
        )
        return version

    def activate(self, version: str) -> None:
        """Make another version the active one, as a command would."""
        run(
            self.database,
            "UPDATE model_versions SET is_active = false; "  # noqa: S608
            f"UPDATE model_versions SET is_active = true WHERE version = '{version}'",
        )

    def started(self, cause: str) -> list[dg.DagsterRun]:
        """Runs that were started for a cause."""
        return list(self.instance.get_runs(filters=dg.RunsFilter(tags={"boursomatic/cause": cause})))


def _stand_in(job: str, versions: Mapping[str, str], **values: str | float) -> dg.JobDefinition:
    """A job of that name whose assets do nothing but be materialized."""

    def made(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name, deps=INPUTS[name])
        def stand_in() -> dg.MaterializeResult[None]:
            return dg.MaterializeResult(data_version=dg.DataVersion(versions[name]), metadata=values)

        return stand_in

    assets = [made(name) if name in versions else dg.AssetSpec(name, deps=INPUTS[name]) for name in INPUTS]
    jobs = [dg.define_asset_job(job, selection=list(versions), executor_def=dg.in_process_executor)]
    return dg.Definitions(assets=assets, jobs=jobs).resolve_job_def(job)


@pytest.fixture(scope="module")
def _opened(postgres: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("instance")
    with environment_at(home), fresh_database(postgres) as settings:
        database = upgraded(settings)
        with open_instance(settings, database) as instance:
            yield Bench(instance, database, home / "artifacts")


@pytest.fixture
def bench(_opened: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The module's instance, emptied; the environment names its database."""
    monkeypatch.setenv("DATABASE_URL", _opened.database.url)
    # Schedules open the instance anew, by what its configuration names.
    monkeypatch.setenv(URL_VARIABLE, instance_url(_opened.database))
    _opened.instance.run_storage.wipe()
    _opened.instance.event_log_storage.wipe()
    run(
        _opened.database,
        "TRUNCATE instruments, model_versions CASCADE; INSERT INTO instruments "
        "(id, symbol, exchange, is_active, created_at, updated_at) "
        "VALUES (gen_random_uuid(), 'AAA', 'US', true, now(), now())",
    )
    return Bench(_opened.instance, _opened.database, _opened.artifacts)
