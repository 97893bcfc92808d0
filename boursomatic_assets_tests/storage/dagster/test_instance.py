from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import sqlalchemy as sa

from boursomatic_assets.core.dataset.experiment import WalkForward
from boursomatic_assets.errors import ArtifactWriteError, ConfigurationError, MissingArtifactError, StorageError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.folds import fold_keys
from boursomatic_assets.storage.dagster.instance import (
    FOLD_PARTITIONS,
    KEPT_SECONDS,
    URL_VARIABLE,
    instance_url,
    open_instance,
    outdated_inputs,
    prepare_instance,
    recorded_metadata,
    unmet_checks,
)
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets_tests.support.catalog import rows, run, tables
from boursomatic_assets_tests.support.processes import at_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_prepare_instance_keeps_an_edited_configuration(settings: Settings, database: Database) -> None:
    home = prepare_instance(settings, database)
    assert home == settings.home / "dagster"
    configuration = home / "dagster.yaml"
    written = configuration.read_text()
    assert "HomeStorage" in written
    configuration.write_text(written + "\n# mine\n")
    assert prepare_instance(settings, database) == home
    assert configuration.read_text() == written + "\n# mine\n"
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]


def test_prepare_instance_sets_the_environment(settings: Settings, database: Database) -> None:
    home = prepare_instance(settings, database)
    assert os.environ["DAGSTER_HOME"] == str(home)
    assert os.environ["DAGSTER_DISABLE_TELEMETRY"] == "1"
    assert os.environ["BOURSOMATIC_DAGSTER_URL"] == instance_url(database)


@dg.asset
def anything() -> None:
    """An asset of somebody's."""


def test_open_instance_uses_the_instance_of_dagster_home(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, configuration = tmp_path / "theirs", "telemetry: {enabled: false}\n"
    monkeypatch.setenv("DAGSTER_HOME", str(theirs))
    with pytest.raises(ConfigurationError, match="DAGSTER_HOME must be an existing folder"):
        open_instance(settings, database)
    theirs.mkdir()
    (theirs / "dagster.yaml").write_text(configuration)
    with open_instance(settings, database) as instance:
        assert instance.root_directory == str(theirs)
        assert instance.get_dynamic_partitions(FOLD_PARTITIONS) == fold_keys(WalkForward().folds)
        dg.materialize([anything], instance=instance)
    with dg.DagsterInstance.from_config(str(theirs)) as seen:
        assert seen.get_runs_count() == 1
    assert not (settings.home / "dagster").exists()
    assert (theirs / "dagster.yaml").read_text() == configuration


def test_own_instance_is_found_by_programs_that_know_its_folder_alone(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(settings, database) as instance:
        before = instance.get_runs_count()
        dg.materialize([anything], instance=instance)
    monkeypatch.delenv(URL_VARIABLE)
    monkeypatch.setenv("DATABASE_URL", database.url)
    with dg.DagsterInstance.get() as seen:
        assert seen.get_runs_count() == before + 1


def test_prepare_instance_writes_no_password(settings: Settings) -> None:
    database = Database("postgresql://reader:p%40ss%25hush@host/prices")
    home = prepare_instance(settings, database)
    assert "hush" not in (home / "dagster.yaml").read_text()
    url = sa.make_url(os.environ["BOURSOMATIC_DAGSTER_URL"])
    # The driver is named, the password is the same, and the schema is Dagster's own.
    assert (url.drivername, url.password, url.database) == ("postgresql+psycopg2", "p@ss%hush", "prices")
    assert str(url.query["options"]).endswith(" -csearch_path=dagster")


@pytest.mark.parametrize("occupied", ["home", "home/dagster"])
def test_prepare_instance_names_an_unwritable_folder(database: Database, tmp_path: Path, occupied: str) -> None:
    (tmp_path / occupied).parent.mkdir(exist_ok=True)
    (tmp_path / occupied).write_text("a file in its place")
    with pytest.raises(ArtifactWriteError, match="BOURSOMATIC_HOME") as caught:
        prepare_instance(Settings.from_environment({"BOURSOMATIC_HOME": str(tmp_path / "home")}), database)
    assert str(tmp_path / "home" / "dagster") in str(caught.value)


def test_open_instance_uses_its_own_schema(settings: Settings, database: Database) -> None:
    public = tables(database, "public")
    with open_instance(settings, database) as instance:
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
    assert {"runs", "event_logs", "asset_keys", "job_ticks", "alembic_version"} <= tables(database, "dagster")
    assert tables(database, "public") == public
    assert rows(
        database,
        "SELECT DISTINCT table_schema FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    ) == [("dagster",), ("public",)]


def test_open_instance_keeps_runs(settings: Settings, database: Database) -> None:
    @dg.asset
    def noted() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"rows": 3})

    with open_instance(settings, database) as instance:
        run_id = dg.materialize([noted], instance=instance).run_id
    with open_instance(settings, database) as instance:
        assert instance.get_runs_count() == 1
        assert recorded_metadata(instance, run_id, "noted")["rows"] == 3


def test_instance_pools_connections_and_replaces_broken_ones(settings: Settings, database: Database) -> None:
    with open_instance(settings, database) as instance:
        made: list[object] = []
        began = time.monotonic()

        def connected(connection: object, _: object) -> None:
            made.append(connection)

        sa.event.listen(sa.Pool, "connect", connected)
        try:
            for _ in range(50):
                assert instance.get_runs_count() == 0
        finally:
            sa.event.remove(sa.Pool, "connect", connected)
        # One at first, and one each time that the kept one had become too old.
        assert len(made) < 10 + (time.monotonic() - began) / KEPT_SECONDS
        # As when the server is restarted.
        cut = rows(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert (True,) in cut
        time.sleep(KEPT_SECONDS + 0.1)
        assert instance.get_runs_count() == 0


def test_open_instance_twice_at_once(settings: Settings, database: Database) -> None:
    imports = "from boursomatic_assets.storage.dagster.instance import open_instance\n"
    script = "print(open_instance(settings, Database.open(settings)).get_runs_count())"
    assert at_once(2, script, imports) == ["0\n", "0\n"]
    assert "runs" in tables(database, "dagster")
    assert (settings.home / "dagster" / "dagster.yaml").exists()


@pytest.fixture
def reader(database: Database) -> Iterator[Database]:
    """The database as a role sees it that may not create schemas."""
    run(database, "CREATE ROLE boursomatic_guest LOGIN")
    yield Database(database.url.replace("postgres:@", "boursomatic_guest@"))
    run(database, "DROP OWNED BY boursomatic_guest CASCADE; DROP ROLE boursomatic_guest")


def test_open_instance_without_the_right_to_create_a_schema(
    settings: Settings, database: Database, reader: Database
) -> None:
    with pytest.raises(StorageError, match="CREATE SCHEMA dagster AUTHORIZATION") as caught:
        open_instance(settings, reader)
    assert "permission denied" in str(caught.value)
    # An administrator runs the statement of the message:
    run(database, "CREATE SCHEMA dagster AUTHORIZATION boursomatic_guest")
    with open_instance(settings, reader) as instance:
        assert instance.get_runs_count() == 0


# Required checks: graphs with one asset and one check. They share one instance; each has its own asset.


ANOTHER_RUN = "00000000-0000-0000-0000-000000000000"
_numbers = itertools.count()


class Graph:
    """An asset with a check, in an instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.name = instance, f"noted_{next(_numbers)}"
        self.checks: dict[dg.AssetCheckKey, list[dg.AssetKey]] = {
            dg.AssetCheckKey(dg.AssetKey(self.name), "holds"): []
        }

    def run(self, *, asset: bool = True, passes: bool | None = True, rows: int = 3) -> str:
        """Materialize the asset, evaluate its check (unless `passes` is None), or both; the run's id."""

        @dg.asset(name=self.name)
        def noted() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"rows": rows})

        @dg.asset_check(asset=noted)
        def holds() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=bool(passes))

        selection = dg.AssetSelection.assets(self.name).without_checks()
        if passes is not None:
            checks = dg.AssetSelection.checks(*self.checks)
            selection = selection | checks if asset else checks
        return dg.materialize([noted, holds], instance=self.instance, selection=selection).run_id

    def unmet(self, run_id: str | None = None) -> list[str]:
        return [unmet.reason for unmet in unmet_checks(self.instance, run_id, self.checks).values()]


@pytest.fixture
def graph(instance: dg.DagsterInstance) -> Graph:
    return Graph(instance)


def test_unmet_checks_skips_an_asset_never_materialized(graph: Graph) -> None:
    assert graph.unmet() == []


def test_unmet_checks_accepts_a_passed_check(graph: Graph) -> None:
    own = graph.run()
    assert graph.unmet(own) == []
    assert graph.unmet() == []


def test_unmet_checks_reports_a_check_never_evaluated(graph: Graph) -> None:
    own = graph.run(passes=None)
    assert graph.unmet(own) == graph.unmet() == ["never evaluated"]


def test_unmet_checks_reports_a_failed_check(graph: Graph) -> None:
    own = graph.run(passes=False)
    assert graph.unmet(own) == graph.unmet() == [f"failed in run {own}"]
    unmet = unmet_checks(graph.instance, own, graph.checks)
    assert list(unmet) == list(graph.checks)
    assert all(reason.has_failed for reason in unmet.values())


def test_unmet_checks_reports_an_outdated_check(graph: Graph) -> None:
    graph.run()
    graph.run(passes=None)
    assert graph.unmet() == [f"not evaluated since {graph.name} was materialized last"]
    graph.run(asset=False)
    assert graph.unmet() == []


def test_unmet_checks_reports_a_newer_other_asset(instance: dg.DagsterInstance, graph: Graph) -> None:
    other = Graph(instance)
    (check,) = graph.checks
    graph.checks[check] = [dg.AssetKey(other.name)]
    # The other asset was never materialized, so it cannot be newer.
    graph.run()
    assert graph.unmet() == []
    own = other.run()
    assert graph.unmet() == graph.unmet(own) == [f"not evaluated since {other.name} was materialized last"]
    graph.run(asset=False)
    assert graph.unmet() == []


def test_unmet_checks_uses_the_newest_evaluation(graph: Graph) -> None:
    graph.run(passes=False)
    graph.run(asset=False)
    assert graph.unmet() == []
    failed = graph.run(asset=False, passes=False)
    assert graph.unmet() == [f"failed in run {failed}"]


def test_unmet_checks_prefers_the_runs_own_evaluation(graph: Graph) -> None:
    passed, failed = graph.run(), graph.run(asset=False, passes=False)
    assert graph.unmet(passed) == []
    graph.run(asset=False)
    assert graph.unmet(failed) == [f"failed in run {failed}"]


def test_recorded_metadata_prefers_the_run(graph: Graph) -> None:
    first, second = graph.run(rows=1), graph.run(rows=2)
    found = [
        recorded_metadata(graph.instance, run_id, graph.name)["rows"] for run_id in (first, second, ANOTHER_RUN)
    ]
    assert found == [1, 2, 2]


def test_recorded_metadata_of_an_asset_never_materialized(graph: Graph) -> None:
    with pytest.raises(MissingArtifactError, match=f"boursomatic materialize --select {graph.name}"):
        recorded_metadata(graph.instance, ANOTHER_RUN, graph.name)


def test_outdated_inputs_names_changed_inputs(instance: dg.DagsterInstance) -> None:
    def lineage(data_version: str) -> list[dg.AssetsDefinition]:
        @dg.asset
        def bars() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(data_version))

        @dg.asset(deps=[bars])
        def figures() -> None:
            pass

        return [bars, figures]

    inputs = {"figures": ["bars"]}
    whole = dg.materialize(lineage("one"), instance=instance).run_id
    assert outdated_inputs(instance, whole, inputs) == {}
    # The same content again is the same input.
    dg.materialize(lineage("one"), instance=instance, selection=["bars"])
    assert outdated_inputs(instance, ANOTHER_RUN, inputs) == {}
    dg.materialize(lineage("two"), instance=instance, selection=["bars"])
    assert outdated_inputs(instance, ANOTHER_RUN, inputs) == {"figures": ["bars"]}
    # For that run its own inputs still match.
    assert outdated_inputs(instance, whole, inputs) == {}
    dg.materialize(lineage("two"), instance=instance, selection=["figures"])
    assert outdated_inputs(instance, ANOTHER_RUN, inputs) == {}
