"""Price levels as model inputs: no new version reads them, and one that was trained with them goes on working."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.services import label_audit
from boursomatic_assets_tests.assets.conftest import installation_on
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import checks_of, failed_in, metadata_of
from boursomatic_assets_tests.support.trained_market import EXPERIMENT, VERSION, market

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

CHECK = "inputs_do_not_depend_on_price_level"
BEFORE = ["ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "atr_14", "volume_zscore"]
NOW = ["ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "natr_14", "volume_zscore"]
LEVELS: dict[str, Any] = {**EXPERIMENT, "features": BEFORE}
FROM_LABELS = f'key:"labels"+ and {VERSION}'


@pytest.fixture(scope="module")
def before(postgres: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A version trained with atr_14 and recommended with, by a program that had no such check yet."""
    path = tmp_path_factory.mktemp("market") / "bars.parquet"
    market().write_parquet(path)
    source = {"provider": "files", "provider_path": str(path)}
    nothing = pl.DataFrame(schema={"input": pl.String, "is_own": pl.Boolean})
    with installation_on(postgres) as installation:
        assert installation.run("db", "upgrade").code == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(label_audit, "rows_that_follow_levels", lambda *_: nothing)
            result = installation.execute(VERSION, platform=source, experiment=LEVELS)
        assert result.success, failed_in(result)
        assert installation.execute('key:"recommendations"').success
        yield installation


@pytest.fixture
def old(postgres: sa.Engine, before: Installation) -> Iterator[Installation]:
    """A copy of that installation; the test's own."""
    template = sa.make_url(before.database_url or "").database
    assert template is not None
    with installation_on(postgres, template) as installation:
        shutil.copytree(before.home, installation.home, dirs_exist_ok=True)
        yield installation


def trials(installation: Installation) -> list[tuple[object, ...]]:
    return installation.ask("SELECT params_hash, created_at, run_id FROM trials ORDER BY 1")


def test_an_experiment_that_names_a_price_level_is_stopped_before_anything_is_trained(old: Installation) -> None:
    versions, tried, bundles = old.versions(), trials(old), old.bundles()
    result = old.execute(FROM_LABELS, experiment={**LEVELS, "seed": 7})
    assert not result.success
    assert failed_in(result) == {CHECK}
    made = checks_of(result)[CHECK]
    assert made.blocking
    assert made.description == (
        "Models must not read atr_14: multiplying a whole history of prices or volumes by a constant changes it, "
        "and back-adjusted prices are divided by every later split and dividend, so that their level knows the "
        "future; name natr_14 in place of atr_14."
    )
    assert made.metadata["inputs_that_follow_levels"].value == ["atr_14"]
    trained = {event.asset_key.to_user_string() for event in result.all_events if event.is_step_materialization}  # type: ignore[union-attr]
    assert trained == {"labels"}
    assert (old.versions(), trials(old), old.bundles()) == (versions, tried, bundles)
    # Nor later, in a run of what follows alone.
    for asset in ("train_set", "model_version"):
        later = old.execute(f'key:"{asset}"+ and {VERSION}', experiment={**LEVELS, "seed": 7})
        assert not later.success
        assert old.versions() == versions


def test_a_version_that_reads_levels_is_verified_served_and_traced(old: Installation) -> None:
    (version,) = old.active()
    for command in (("verify",), ("verify", "--against-database"), ("recommend",), ("trace", "AAA")):
        ended = old.run(*command)
        assert ended.code == 0, ended.said
    traced = json.loads(old.run("trace", "AAA", "--json").output)
    assert "DIFFERS" not in json.dumps(traced).upper()
    snapshot = old.ask("SELECT features_snapshot FROM recommendations WHERE is_active LIMIT 1")[0][0]
    assert list(snapshot["features"]) == BEFORE  # type: ignore[index]
    assert old.execute('key:"drift"').success
    assert old.active() == [version]


def test_the_list_marks_it_with_its_trial_and_without(old: Installation) -> None:
    (version,) = old.active()
    mark = f"{version} reads price levels (atr_14)"
    assert mark in old.run("models", "list").said
    assert mark in old.run("models", "show").said
    assert json.loads(old.run("models", "show", "--json").output)["price_levels"] == ["atr_14"]
    run(old.database(), "DELETE FROM trials")
    assert mark in old.run("models", "list").said
    # Nothing can be said of a bundle that is gone, or is another than the one that was recorded.
    run(old.database(), "UPDATE model_versions SET manifest_sha256 = repeat('0', 64)")
    assert "reads price levels" not in old.run("models", "list").said
    run(old.database(), "UPDATE model_versions SET model_path = '/nowhere', manifest_sha256 = NULL")
    ended = old.run("models", "list")
    assert ended.code == 0
    assert "reads price levels" not in ended.said


def test_a_new_version_is_held_against_it_on_the_values_of_the_table(old: Installation) -> None:
    (version,) = old.active()
    result = old.execute(FROM_LABELS, experiment=EXPERIMENT)
    assert result.success
    newest, first = old.versions()
    assert first.version == version
    assert newest.gate is not None
    assert newest.gate.champion == version
    assert newest.gate.sessions > 0
    said = metadata_of(result, "model_version")
    assert said["common_sessions"] == newest.gate.sessions
    # What the old version loses, by its own text and the features of the table.
    test_set = pl.read_parquet(old.artifacts / "assets" / "test_set.parquet")
    assert [name for name in test_set.columns if name.endswith("atr_14")] == ["natr_14"]
    stored = old.ask(
        f"SELECT i.symbol, f.ts::date, {', '.join(f'f.{name}' for name in BEFORE)} FROM features f "  # noqa: S608
        "JOIN instruments i ON i.id = f.instrument_id"
    )
    table = pl.DataFrame(stored, schema=["symbol", "session", *BEFORE], orient="row")
    rows = test_set.select("symbol", "session", "label").join(table, on=["symbol", "session"])
    since = pl.lit(newest.gate.figures["first_session"]).str.to_date()
    judged = rows.filter(pl.col("session") >= since)
    assert judged.height == newest.gate.figures["rows"]
    folder = Path(first.model_path)
    temperature = json.loads((folder / "manifest.json").read_text())["threshold"]["temperature"]
    booster = lightgbm.Booster(model_file=f"{folder}/classifier.txt")
    chances = booster.predict(judged.select(BEFORE).to_numpy().astype(np.float32)) ** (1 / temperature)
    chances = chances / chances.sum(axis=1, keepdims=True)
    happened = [CLASS_NAMES.index(label) for label in judged["label"].cast(pl.String)]
    losses = -np.log(chances[np.arange(len(happened)), happened])
    daily = judged.with_columns(loss=pl.Series(losses)).group_by("session").agg(pl.col("loss").mean())
    # A session's names are one observation.
    expected = pl.Series(daily["loss"]).mean()
    assert newest.gate.figures["log_loss"]["champion"] == pytest.approx(expected, rel=1e-9)
    # And back to it: by its name, or to the one before.
    assert old.run("models", "activate", newest.version).code == 0
    assert old.active() == [newest.version]
    assert old.run("models", "rollback").code == 0
    assert old.active() == [version]
    assert old.run("recommend").code == 0


def test_an_untouched_copy_has_the_inputs_of_the_table_or_their_share_of_the_close(old: Installation) -> None:
    result = old.execute(FROM_LABELS, experiment=EXPERIMENT)
    assert result.success
    labels = pl.read_parquet(old.artifacts / "assets" / "labels.parquet")
    assert [name for name in labels.columns if name in {*BEFORE, *NOW}] == NOW
    stored = old.ask(
        "SELECT i.symbol, f.ts::date, f.atr_14 / b.c FROM features f JOIN instruments i ON i.id = f.instrument_id "
        "JOIN price_bars b ON b.instrument_id = f.instrument_id AND b.ts = f.ts"
    )
    table = pl.DataFrame(stored, schema=["symbol", "session", "share"], orient="row")
    both = labels.join(table, on=["symbol", "session"])
    assert both.height == labels.height
    assert both["natr_14"].equals(both["share"], null_equal=True)
