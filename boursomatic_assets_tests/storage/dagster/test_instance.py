from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import sqlalchemy as sa

from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError, StorageError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.dagster.instance import (
    KEPT_SECONDS,
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


def test_the_configuration_is_written_once_and_an_edited_one_is_left_alone(
    settings: Settings, database: Database
) -> None:
    home = prepare_instance(settings, database)
    assert home == settings.home / "dagster"
    configuration = home / "dagster.yaml"
    written = configuration.read_text()
    assert "BOURSOMATIC_DAGSTER_URL" in written
    configuration.write_text(written + "\n# mine\n")
    assert prepare_instance(settings, database) == home
    assert configuration.read_text() == written + "\n# mine\n"
    assert [path.name for path in home.iterdir()] == ["dagster.yaml"]


def test_this_process_and_its_children_are_pointed_at_the_instance(settings: Settings, database: Database) -> None:
    home = prepare_instance(settings, database)
    assert os.environ["DAGSTER_HOME"] == str(home)
    assert os.environ["DAGSTER_DISABLE_TELEMETRY"] == "1"
    assert os.environ["BOURSOMATIC_DAGSTER_URL"] == instance_url(database)


def test_the_password_is_in_the_environment_only(settings: Settings) -> None:
    database = Database("postgresql://reader:p%40ss%25hush@host/prices")
    home = prepare_instance(settings, database)
    assert "hush" not in (home / "dagster.yaml").read_text()
    url = sa.make_url(os.environ["BOURSOMATIC_DAGSTER_URL"])
    # The driver is named, the password is the same, and the schema is Dagster's own.
    assert (url.drivername, url.password, url.database) == ("postgresql+psycopg2", "p@ss%hush", "prices")
    assert url.query == {"options": "-csearch_path=dagster"}


@pytest.mark.parametrize("occupied", ["home", "home/dagster"])
def test_an_instance_folder_that_cannot_be_written_is_named(
    database: Database, tmp_path: Path, occupied: str
) -> None:
    (tmp_path / occupied).parent.mkdir(exist_ok=True)
    (tmp_path / occupied).write_text("a file in its place")
    with pytest.raises(ArtifactWriteError, match="BOURSOMATIC_HOME") as caught:
        prepare_instance(Settings.from_environment({"BOURSOMATIC_HOME": str(tmp_path / "home")}), database)
    assert str(tmp_path / "home" / "dagster") in str(caught.value)


def test_dagsters_tables_are_in_a_schema_of_their_own(settings: Settings, database: Database) -> None:
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


def test_what_a_run_left_is_there_when_the_instance_is_opened_again(settings: Settings, database: Database) -> None:
    @dg.asset
    def noted() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"rows": 3})

    with open_instance(settings, database) as instance:
        run_id = dg.materialize([noted], instance=instance).run_id
    with open_instance(settings, database) as instance:
        assert instance.get_runs_count() == 1
        assert recorded_metadata(instance, run_id, "noted")["rows"] == 3


def test_questions_share_connections_and_those_that_were_cut_are_made_anew(
    settings: Settings, database: Database
) -> None:
    with open_instance(settings, database) as instance:
        made: list[object] = []

        def connected(connection: object, _: object) -> None:
            made.append(connection)

        sa.event.listen(sa.Pool, "connect", connected)
        try:
            for _ in range(50):
                assert instance.get_runs_count() == 0
        finally:
            sa.event.remove(sa.Pool, "connect", connected)
        assert len(made) < 10
        # As when the server is restarted.
        cut = rows(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert (True,) in cut
        time.sleep(KEPT_SECONDS + 0.1)
        assert instance.get_runs_count() == 0


def test_two_processes_that_open_an_empty_instance_at_once_both_succeed(
    settings: Settings, database: Database
) -> None:
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


def test_a_role_that_may_not_create_the_schema_is_told_what_to_ask_for_and_it_helps(
    settings: Settings, database: Database, reader: Database
) -> None:
    with pytest.raises(StorageError, match="CREATE SCHEMA dagster AUTHORIZATION") as caught:
        open_instance(settings, reader)
    assert "permission denied" in str(caught.value)
    # As an administrator does what the message says:
    run(database, "CREATE SCHEMA dagster AUTHORIZATION boursomatic_guest")
    with open_instance(settings, reader) as instance:
        assert instance.get_runs_count() == 0


# What vouches for an asset: small graphs with one asset and one check, run as people run them. One instance
# serves them all; each has an asset of its own.


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

    def unmet(self, run_id: str = ANOTHER_RUN) -> list[str]:
        return list(unmet_checks(self.instance, run_id, self.checks).values())


@pytest.fixture
def graph(instance: dg.DagsterInstance) -> Graph:
    return Graph(instance)


def test_a_check_of_an_asset_never_materialized_here_has_nothing_to_vouch_for(graph: Graph) -> None:
    assert graph.unmet() == []


def test_a_check_that_passed_in_this_run_or_since_the_last_materialization_vouches(graph: Graph) -> None:
    own = graph.run()
    assert graph.unmet(own) == []
    assert graph.unmet() == []


def test_a_check_that_was_never_evaluated_does_not_vouch(graph: Graph) -> None:
    own = graph.run(passes=None)
    assert graph.unmet(own) == graph.unmet() == ["never evaluated"]


def test_a_check_that_failed_does_not_vouch(graph: Graph) -> None:
    own = graph.run(passes=False)
    assert graph.unmet(own) == graph.unmet() == [f"failed in run {own}"]
    assert list(unmet_checks(graph.instance, own, graph.checks)) == list(map(str, graph.checks))


def test_a_check_that_saw_an_older_materialization_does_not_vouch_until_evaluated_again(graph: Graph) -> None:
    graph.run()
    graph.run(passes=None)
    assert graph.unmet() == [f"not evaluated since {graph.name} was materialized last"]
    graph.run(asset=False)
    assert graph.unmet() == []


def test_a_check_that_looks_at_another_asset_too_does_not_vouch_once_that_one_is_newer(
    instance: dg.DagsterInstance, graph: Graph
) -> None:
    other = Graph(instance)
    (check,) = graph.checks
    graph.checks[check] = [dg.AssetKey(other.name)]
    # Never materialized, the other one has nothing that could be newer.
    graph.run()
    assert graph.unmet() == []
    own = other.run()
    assert graph.unmet() == graph.unmet(own) == [f"not evaluated since {other.name} was materialized last"]
    graph.run(asset=False)
    assert graph.unmet() == []


def test_of_two_evaluations_the_newer_one_counts(graph: Graph) -> None:
    graph.run(passes=False)
    graph.run(asset=False)
    assert graph.unmet() == []
    failed = graph.run(asset=False, passes=False)
    assert graph.unmet() == [f"failed in run {failed}"]


def test_in_a_run_its_own_evaluation_counts_whatever_others_found_since(graph: Graph) -> None:
    passed, failed = graph.run(), graph.run(asset=False, passes=False)
    assert graph.unmet(passed) == []
    graph.run(asset=False)
    assert graph.unmet(failed) == [f"failed in run {failed}"]


def test_metadata_of_this_run_comes_before_newer_ones_of_others(graph: Graph) -> None:
    first, second = graph.run(rows=1), graph.run(rows=2)
    found = [
        recorded_metadata(graph.instance, run_id, graph.name)["rows"] for run_id in (first, second, ANOTHER_RUN)
    ]
    assert found == [1, 2, 2]


def test_metadata_of_what_was_never_materialized_is_missing(graph: Graph) -> None:
    with pytest.raises(MissingArtifactError, match=f"boursomatic materialize --select {graph.name}"):
        recorded_metadata(graph.instance, ANOTHER_RUN, graph.name)


def test_an_asset_made_from_an_older_input_is_told_apart(instance: dg.DagsterInstance) -> None:
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
    # To that run itself they belonged together, and do.
    assert outdated_inputs(instance, whole, inputs) == {}
    dg.materialize(lineage("two"), instance=instance, selection=["figures"])
    assert outdated_inputs(instance, ANOTHER_RUN, inputs) == {}
