from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest
import sqlalchemy as sa
from upath import UPath

from boursomatic_assets.definitions import defs
from boursomatic_assets.services.features import update_features
from boursomatic_assets.services.retention.prune import Place, prune
from boursomatic_assets.services.tracing.recommendation import choose_recommendation, trace_row
from boursomatic_assets.settings import Retention
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets.storage.postgres.expired_rows import database_clock
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations
from boursomatic_assets_tests.conftest import copy_database
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.stored import altered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation, Outcome

NEWEST, BEFORE = "2013-03-01", "2013-02-28"
BAR = "interval = 'daily' AND instrument_id = (SELECT id FROM instruments WHERE symbol = 'AAPL') AND ts"
LAST_BARS = f"interval = 'daily' AND ts = '{NEWEST}'"
FEATURE = "instrument_id = (SELECT id FROM instruments WHERE symbol = 'AAPL') AND ts"
OF_AAPL = (
    "profile = 'moderate' AND is_active AND instrument_id = (SELECT id FROM instruments WHERE symbol = 'AAPL')"
)


@contextmanager
def copy_of(installation: Installation, name: str) -> Iterator[Installation]:
    """The same home and artifacts with a database of its own, which holds what the other one holds."""
    original = sa.make_url(installation.database().url)
    server = sa.create_engine(
        original.set(drivername="postgresql+psycopg2", database="postgres"),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
    )
    assert original.database is not None
    copy_database(server, original.database, name)
    try:
        url = original.set(database=name).render_as_string(hide_password=False)
        yield replace(installation, database_url=url)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Traced:
    """What a trace ended with and said."""

    outcome: Outcome
    found: dict[str, Any]

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """The steps at which it differs, by the way to them."""
        return {" > ".join(source["path"][1:]): source for source in self.found["sources"]}

    def step(self, *names: str) -> dict[str, Any]:
        found = self.found["steps"]
        for name in names:
            (found,) = [child for child in found["children"] if child["name"] == name]
        return found


def trace(installation: Installation, *wanted: str) -> Traced:
    ended = installation.run("trace", *(wanted or ("AAPL",)), "--json")
    traced = Traced(ended, json.loads(ended.output))
    assert ended.code == (0 if traced.found["matches"] else 1)
    return traced


def value(installation: Installation, column: str, table: str, where: str) -> Any:  # noqa: ANN401
    ((found,),) = installation.ask(f"SELECT {column} FROM {table} WHERE {where}")  # noqa: S608
    return found


def update(installation: Installation, table: str, change: str, where: str = "true") -> None:
    """What somebody does by hand."""
    run(installation.database(), f"UPDATE {table} SET {change} WHERE {where}")  # noqa: S608


def delete(installation: Installation, table: str, where: str) -> None:
    run(installation.database(), f"DELETE FROM {table} WHERE {where}")  # noqa: S608


def recommended(installation: Installation) -> None:
    ended = installation.run("recommend")
    assert ended.code == 0, ended.said


def with_features(installation: Installation) -> None:
    update_features(installation.database(), "1", lambda _: None)


@pytest.fixture(scope="module")
def recommended_twice(trained_once: Installation) -> Iterator[Installation]:
    """Recommendations of the session before the newest, then the newest bars arrive, and others of these."""
    with copy_of(trained_once, "recommended_twice") as installation:
        database = installation.database()
        run(database, f"CREATE TABLE kept AS SELECT * FROM price_bars WHERE {LAST_BARS}")  # noqa: S608
        delete(installation, "price_bars", LAST_BARS)
        with_features(installation)
        recommended(installation)
        # As they arrive: written now.
        run(database, "UPDATE kept SET id = gen_random_uuid(), created_at = timezone('utc', now())")
        run(database, "INSERT INTO price_bars SELECT * FROM kept")
        with_features(installation)
        recommended(installation)
        yield installation


@pytest.fixture
def installation(recommended_twice: Installation) -> Iterator[Installation]:
    """A copy of it that a test may spoil."""
    with copy_of(recommended_twice, "spoilt") as copied:
        yield copied


def test_every_recommendation_matches_at_every_step_also_those_before_a_later_session(
    recommended_twice: Installation,
) -> None:
    database = recommended_twice.database()
    rows = read_recommendations(database, active_only=False)
    # 5 symbols of 3 profiles, on 2 sessions; those of the first are archived
    assert rows.height == 30
    assert rows["is_active"].sum() == 15
    with recommended_twice.entered(), open_instance(recommended_twice.settings, database) as instance:
        traces = [trace_row(database, instance, choose_recommendation(database, name)) for name in rows["id"]]
    assert {trace.facts["session"] for trace in traces} == {NEWEST, BEFORE}
    assert [trace.root.sources() for trace in traces] == [[]] * 30
    assert all(step.status == "matches" for trace in traces for _, step in trace.root.walk())


def test_the_tree_names_every_step_down_to_the_bars(recommended_twice: Installation) -> None:
    ended = recommended_twice.run("trace", "AAPL")
    assert ended.code == 0, ended.said
    for name in ("classifier.txt", "training run", "training data", "computed again", "bars", "adjustments"):
        assert f"matches {name}" in ended.said
    assert "steps are as they were, to the last bit" in ended.said


def test_a_recommendation_is_found_by_its_id_and_by_symbol_session_and_profile(
    recommended_twice: Installation,
) -> None:
    rows = read_recommendations(recommended_twice.database(), symbols=["IBM"], active_only=False)
    for row in rows.iter_rows(named=True):
        named = ("IBM", "--session", str(row["session"]), "--profile", row["profile"])
        assert trace(recommended_twice, *named).found["id"] == row["id"]
        assert trace(recommended_twice, row["id"].upper()).found["profile"] == row["profile"]
    usual = rows.filter(profile="moderate", is_active=True)["id"].item()
    assert trace(recommended_twice, "IBM").found["id"] == usual


@pytest.mark.parametrize(
    "wanted",
    [
        ("XYZ",),
        ("AAPL", "--session", "2013-01-01"),
        ("01234567-89ab-cdef-0123-456789abcdef",),
    ],
)
def test_an_unknown_recommendation_is_told_with_what_to_do(
    recommended_twice: Installation, wanted: tuple[str, ...]
) -> None:
    ended = recommended_twice.run("trace", *wanted)
    assert ended.code == 1
    assert f"no recommendation '{wanted[0]}'" in ended.said
    assert "boursomatic recommendations" in ended.said


def test_a_date_that_is_none_is_a_wrong_call(recommended_twice: Installation) -> None:
    assert recommended_twice.run("trace", "AAPL", "--session", "yesterday").code == 2


def test_it_writes_a_page(recommended_twice: Installation, tmp_path: Path) -> None:
    file = tmp_path / "trace.html"
    ended = recommended_twice.run("trace", "AAPL", "--html", str(file))
    assert ended.code == 0, ended.said
    assert str(file) in ended.said
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    nowhere = recommended_twice.run("trace", "AAPL", "--html", str(tmp_path / "no" / "trace.html"))
    assert nowhere.code == 1
    assert "--html FILE" in nowhere.said


def test_an_altered_bar_is_named_with_its_value_then_and_now(installation: Installation) -> None:
    then = value(installation, "c", "price_bars", f"{BAR} = '2013-02-20'")
    update(installation, "price_bars", "c = c * 1.01", f"{BAR} = '2013-02-20'")
    traced = trace(installation)
    assert list(traced.sources) == ["features > bars > 2013-02-20"]
    (bar,) = traced.sources.values()
    assert (bar["recorded"], bar["found"]) == (f"close {then!r}", f"close {then * 1.01!r}")
    # the number itself still follows from the bars of then
    assert traced.step("features", "computed again")["status"] == "matches"
    said = installation.run("trace", "AAPL").said
    assert f"features > bars > 2013-02-20: differs: close {then!r} -> close {then * 1.01!r}" in said
    # of another instrument nothing has changed, nor of a session before that bar
    assert trace(installation, "IBM").found["matches"]


def test_an_altered_bar_is_named_after_the_features_were_computed_anew_from_it(installation: Installation) -> None:
    update(installation, "price_bars", "h = h * 1.02", f"{BAR} = '2013-02-20'")
    with_features(installation)
    traced = trace(installation)
    assert list(traced.sources) == ["features > bars > 2013-02-20"]
    assert traced.step("features", "stored row")["status"] == "changed since"
    assert traced.step("features", "stored row")["found"].startswith("atr_14 ")
    # recommended anew, from what is there now
    recommended(installation)
    assert trace(installation).found["matches"]
    rows = read_recommendations(installation.database(), symbols=["AAPL"], profile="moderate", active_only=False)
    (archived,) = rows.filter(pl.col("session") == date.fromisoformat(NEWEST), ~pl.col("is_active"))["id"]
    assert list(trace(installation, archived).sources) == ["features > bars > 2013-02-20"]


def test_a_bar_that_changed_before_the_recommendation_and_after_its_features_is_named(
    installation: Installation,
) -> None:
    update(installation, "price_bars", "c = c * 1.01", f"{BAR} = '2013-02-20'")
    # Newest features are recommended on, though a bar of theirs is another one by now.
    update(installation, "features", "rsi_14 = 50", f"{FEATURE} = '{NEWEST}'")
    recommended(installation)
    assert "features > bars > 2013-02-20" in trace(installation).sources


def test_a_deleted_bar_is_gone(installation: Installation) -> None:
    delete(installation, "price_bars", f"{BAR} = '2012-05-18'")
    traced = trace(installation)
    assert list(traced.sources) == ["features > bars > 2012-05-18"]
    (bar,) = traced.sources.values()
    assert (bar["status"], bar["found"]) == ("gone", "no such bar")


def test_the_deleted_bar_of_the_session_itself_is_gone_and_its_features_are_a_consequence(
    installation: Installation,
) -> None:
    delete(installation, "price_bars", f"{BAR} = '{NEWEST}'")
    with_features(installation)
    traced = trace(installation)
    assert list(traced.sources) == [f"features > bars > {NEWEST}"]
    assert traced.step("features", "computed again")["status"] == "matches"


def test_a_bar_that_appears_later_is_named(installation: Installation) -> None:
    # A Saturday on which something was traded, says somebody.
    run(
        installation.database(),
        "INSERT INTO price_bars (id, instrument_id, ts, interval, o, h, l, c, v, created_at) SELECT "  # noqa: S608
        "gen_random_uuid(), instrument_id, '2013-02-23', interval, o, h, l, c, v, timezone('utc', now()) "
        f"FROM price_bars WHERE {BAR} = '2013-02-22'",
    )
    traced = trace(installation)
    assert list(traced.sources) == ["features > bars > 2013-02-23"]
    assert traced.sources["features > bars > 2013-02-23"]["recorded"] == "no such bar"


def test_bars_that_changed_without_a_record_are_told_as_such(installation: Installation) -> None:
    run(installation.database(), "ALTER TABLE price_bars DISABLE TRIGGER ALL")
    update(installation, "price_bars", "c = c * 1.01", f"{BAR} = '2013-02-20'")
    run(installation.database(), "ALTER TABLE price_bars ENABLE TRIGGER ALL")
    traced = trace(installation)
    assert list(traced.sources) == ["features > computed again", "features > bars"]
    assert "no change is on record" in traced.sources["features > bars"]["detail"]


def test_an_adjustment_that_was_entered_later_is_named(installation: Installation) -> None:
    run(
        installation.database(),
        "INSERT INTO adjustments (symbol, session, ratio) VALUES ('AAPL', '2013-02-20', 0.5)",
    )
    for compute in (lambda _: None, with_features):
        compute(installation)
        traced = trace(installation)
        assert list(traced.sources) == ["features > adjustments > 2013-02-20"]
        assert traced.step("features", "computed again")["status"] == "matches"
        assert traced.step("features", "bars")["status"] == "matches"


def test_a_feature_that_was_altered_by_hand_is_named(installation: Installation) -> None:
    then = value(installation, "rsi_14", "features", f"{FEATURE} = '{NEWEST}'")
    update(installation, "features", "rsi_14 = 50", f"{FEATURE} = '{NEWEST}'")
    traced = trace(installation)
    assert list(traced.sources) == ["features > stored row > rsi_14"]
    (feature,) = traced.sources.values()
    assert (feature["recorded"], feature["found"]) == (repr(then), "50.0")


def test_features_that_are_gone_while_their_bars_are_there_are_named(installation: Installation) -> None:
    delete(installation, "features", f"{FEATURE} = '{NEWEST}'")
    assert {name: step["status"] for name, step in trace(installation).sources.items()} == {
        "features > stored row": "gone"
    }


def snapshot_with(installation: Installation, path: str, text: str) -> None:
    changed = f"jsonb_set(features_snapshot::jsonb, '{path}', '{text}')::json"
    update(installation, "recommendations", f"features_snapshot = {changed}", OF_AAPL)


def test_an_edited_snapshot_is_named_with_what_was_edited(installation: Installation) -> None:
    snapshot_with(installation, "{features,rsi_14}", "50")
    sources = trace(installation).sources
    assert {"snapshot", "features > stored row > rsi_14", "features > computed again > rsi_14"} <= set(sources)


def test_a_mangled_snapshot_and_one_of_another_program_end_the_trace(installation: Installation) -> None:
    snapshot_with(installation, "{close}", '"dear"')
    (step,) = trace(installation).sources.values()
    assert (step["status"], "close" in step["detail"]) == ("differs", True)
    update(installation, "recommendations", "features_snapshot = '{}'", OF_AAPL)
    (step,) = trace(installation).sources.values()
    assert (step["status"], "another program" in step["detail"]) == ("not recorded", True)
    assert installation.run("trace", "AAPL").code == 1


def test_an_edited_row_is_named(installation: Installation) -> None:
    update(installation, "recommendations", "confidence = 0.99", OF_AAPL)
    traced = trace(installation)
    assert list(traced.sources) == ["call > confidence"]
    assert traced.sources["call > confidence"]["recorded"] == "0.99"


@pytest.mark.parametrize("name", ["classifier.txt", "regressor.pkl", "manifest.json"])
def test_an_altered_file_of_the_bundle_is_named_with_both_digests(
    recommended_twice: Installation, name: str
) -> None:
    (path,) = recommended_twice.artifacts.glob(f"models/*/{name}")
    with altered(path, path.read_bytes() + b" "):
        traced = trace(recommended_twice)
    place = f"prediction > model bundle > {name}"
    assert list(traced.sources) == [place]
    source = traced.sources[place]
    assert len(source["recorded"]) == len(source["found"]) == 64
    made = traced.step("prediction")
    # The models were not read from a file that is not what it was.
    assert made["status"] == ("matches" if name == "regressor.pkl" else "gone")


def test_a_missing_file_and_a_missing_snapshot_of_the_training_data_are_gone(
    recommended_twice: Installation,
) -> None:
    (regressor,) = recommended_twice.artifacts.glob("models/*/regressor.txt")
    (snapshot,) = recommended_twice.artifacts.glob("snapshots/*.parquet")
    for path, name in ((regressor, "regressor.txt"), (snapshot, "training data")):
        with altered(path, None):
            assert trace(recommended_twice).sources[f"prediction > model bundle > {name}"]["status"] == "gone"


def test_a_bundle_that_is_not_there_is_gone(installation: Installation) -> None:
    for path in ("'/nowhere/at/all'", "NULL"):
        update(installation, "model_versions", f"model_path = {path}")
        traced = trace(installation)
        assert {name: step["status"] for name, step in traced.sources.items()} == {
            "prediction > model bundle": "gone"
        }


def test_a_later_model_version_changes_nothing_of_a_recommendation(installation: Installation) -> None:
    run(
        installation.database(),
        "UPDATE model_versions SET is_active = false; INSERT INTO model_versions "
        "(id, version, trained_at, params_hash, metrics_json, model_path, is_active, created_at) SELECT "
        "gen_random_uuid(), 'later', trained_at, params_hash, metrics_json, '/nowhere', true, created_at "
        "FROM model_versions",
    )
    assert trace(installation).found["matches"]


def test_a_run_that_dagster_no_longer_knows_is_gone(installation: Installation) -> None:
    (path,) = installation.artifacts.glob("models/*/manifest.json")
    with installation.entered(), open_instance(installation.settings, installation.database()) as instance:
        instance.delete_run(json.loads(path.read_bytes())["run_id"])
    sources = trace(installation).sources
    assert {name: step["status"] for name, step in sources.items()} == {
        "prediction > model bundle > training run": "gone"
    }


@dg.job
def nothing() -> None:
    """A run that no asset, version or recommendation needs."""


@pytest.fixture
def grown(installation: Installation, tmp_path: Path) -> Installation:
    """A home with records that expire: IBM's archived rows, judged and of a version that is not active; old changes
    of bars; a run without assets. Later a dividend rewrote every history, so that traces need the changes since.
    """
    shutil.copytree(installation.artifacts, tmp_path / "artifacts")
    moved = replace(installation, home=tmp_path, database_url=installation.database_url)
    run(
        moved.database(),
        "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, is_active) "
        "VALUES (gen_random_uuid(), 'earlier', '2012-01-01', 'p', '{}', false);"
        "UPDATE recommendations SET model_version_id = (SELECT id FROM model_versions WHERE version = 'earlier') "
        "WHERE NOT is_active AND instrument_id = (SELECT id FROM instruments WHERE symbol = 'IBM');"
        "INSERT INTO recommendation_outcomes SELECT r.id, session, 1, session, 1, 0, 'HOLD', true, NULL, NULL, "
        "'horizon' FROM recommendations r JOIN model_versions m ON m.id = model_version_id "
        "WHERE version = 'earlier';"
        "UPDATE price_bars SET o = o * 0.99, h = h * 0.99, l = l * 0.99, c = c * 0.99",
    )
    with moved.entered(), open_instance(moved.settings, moved.database()) as instance:
        assert nothing.execute_in_process(instance=instance).success
    return moved


def traces_of(installation: Installation, ids: list[str]) -> list[object]:
    database = installation.database()
    with installation.entered(), open_instance(installation.settings, database) as instance:
        return [trace_row(database, instance, choose_recommendation(database, each)).to_json() for each in ids]


def newest_events(installation: Installation) -> list[object]:
    """Of each asset the newest materialization, and the results of its checks."""
    with installation.entered(), open_instance(installation.settings, installation.database()) as instance:
        keys = sorted(instance.all_asset_keys())
        made = [instance.get_latest_materialization_event(key) for key in keys]
        checks = [spec.key for each in defs.asset_checks or () for spec in each.check_specs]
        known = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
        return [*keys, *made, {key: (record.status, record.run_id) for key, record in known.items()}]


@pytest.mark.slow
def test_what_stays_after_pruning_is_traced_as_before_and_the_product_goes_on(grown: Installation) -> None:
    database = grown.database()
    stored = read_recommendations(database, active_only=False, profile="moderate")
    # AAPL's archived row, and what is recommended on IBM now.
    chosen = stored.filter((pl.col("symbol") == "AAPL") & ~pl.col("is_active") | (pl.col("symbol") == "IBM"))
    kept = chosen.filter(pl.col("version") != "earlier")["id"].to_list()
    assert len(kept) == 2
    before, events = traces_of(grown, kept), newest_events(grown)

    def applied(*, remove: bool) -> dict[str, int]:
        now = database_clock(database) + timedelta(days=400)
        with grown.entered(), open_instance(grown.settings, database) as instance:
            place = Place(database, UPath(str(grown.artifacts)), instance, Retention.from_environment(), now)
            found = prune(place, who="ann", remove=remove, note=lambda _: None)
        return {each.what: each.count for each in found if each.count}

    listed = applied(remove=False)
    # Three profiles of IBM; of the five bars that the fixture removed for a while, IBM's: the archived rows of the
    # other four symbols rest on features that were computed before; the run without assets.
    assert (listed["recommendations"], listed["bar changes"], listed["runs, with events and logs"]) == (3, 1, 1)
    assert applied(remove=True) == listed
    assert applied(remove=True) == {}
    assert rows(database, "SELECT count(*) FROM bar_changes WHERE operation = 'delete'") == [(4,)]
    assert traces_of(grown, kept) == before
    assert newest_events(grown) == events
    assert grown.run("verify").code == 0
    assert grown.run("recommend").code == 0
