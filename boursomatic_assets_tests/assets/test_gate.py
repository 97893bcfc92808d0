"""What must never become a model version: each test plants a fault and looks for a row, a bundle, a change."""

from __future__ import annotations

import io
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest

from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel, fit_classifier
from boursomatic_assets.definitions import defs
from boursomatic_assets.errors import TamperedArtifactError
from boursomatic_assets.storage.artifacts.bundles import pack_model, unpack_model
from boursomatic_assets.storage.artifacts.stamps import stamp_for, to_json
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import ALONE, failure_of
from boursomatic_assets_tests.support.stored import overwrite_panel, panel_of, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

REMADE = dg.AssetSelection.assets("predictions", "threshold", "metrics", "feature_importance")
TRAIN_SET_CHECK = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("train_set"), "sets_do_not_touch"))


def leaking(train: pl.DataFrame, validation: pl.DataFrame) -> pl.DataFrame:
    """The training set as a split without a purge would leave it: its last labels end in the validation set."""
    newest = pl.col("session") == pl.col("session").max()
    inside = validation["session"].min()
    return train.with_columns(label_end=pl.when(newest).then(pl.lit(inside)).otherwise("label_end"))


def check_passed(result: dg.ExecuteInProcessResult) -> list[bool]:
    return [evaluation.passed for evaluation in result.get_asset_check_evaluations()]


class State:
    """The versions as they are; `unchanged` later says whether anything moved."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.before = self._state()

    def _state(self) -> tuple[object, ...]:
        place = self.installation
        bundles = {name: digest for name, digest in place.files().items() if name.startswith("models/")}
        return place.ask("SELECT xmin::text, m::text FROM model_versions m"), bundles, place.active()

    def unchanged(self) -> bool:
        self.installation.verify()
        return self._state() == self.before


def test_a_version_is_recorded_alone_in_a_later_run_while_everything_holds(trained: Installation) -> None:
    # What the refusals below are compared with: nothing about "alone" or "later" is refused as such.
    (before,) = trained.active()
    assert trained.execute(ALONE).success
    (after,) = trained.active()
    assert after != before
    assert len(trained.versions()) == 2
    trained.verify()


def test_a_failed_check_refuses_a_version_in_a_later_run(trained: Installation) -> None:
    train, validation = panel_of(trained, "train_set"), panel_of(trained, "validation_set")
    overwrite_panel(trained, "train_set", leaking(train, validation))
    assert check_passed(trained.execute(TRAIN_SET_CHECK)) == [False]

    state = State(trained)
    refused = trained.execute(ALONE)
    assert not refused.success
    message = failure_of(refused, "model_version")
    assert "Failure" in message
    assert "sets_do_not_touch" in message
    assert "failed in run" in message
    assert state.unchanged()

    # The same data whole again, and looked at again: nothing stands in the way any more.
    overwrite_panel(trained, "train_set", train)
    assert check_passed(trained.execute(TRAIN_SET_CHECK)) == [True]
    assert trained.execute(ALONE).success


def test_a_check_that_has_not_seen_the_newest_materialization_refuses_a_version(trained: Installation) -> None:
    unseen = dg.AssetSelection.assets("train_set", "validation_set", "test_set").without_checks()
    assert trained.execute(unseen).success

    state = State(trained)
    message = failure_of(trained.execute(ALONE), "model_version")
    assert "sets_do_not_touch" in message
    assert "not evaluated since train_set was materialized last" in message
    assert "values_are_possible" not in message
    assert state.unchanged()


def test_a_check_that_never_ran_refuses_a_version(trained: Installation) -> None:
    run(trained.database(), "DELETE FROM dagster.asset_check_executions WHERE check_name = 'values_are_possible'")
    state = State(trained)
    message = failure_of(trained.execute(ALONE), "model_version")
    assert "values_are_possible" in message
    assert "never evaluated" in message
    assert "sets_do_not_touch" not in message
    assert state.unchanged()


def test_each_required_check_is_required_of_its_own(trained: Installation) -> None:
    # All at once fail to have seen the newest materialization: each must be named.
    everything = dg.AssetSelection.assets("model_version").upstream(include_self=False).without_checks()
    assert trained.execute(everything).success
    state = State(trained)
    message = failure_of(trained.execute(ALONE), "model_version")
    for key in REQUIRED_CHECKS:
        assert key.name in message
    assert state.unchanged()


def test_another_model_in_the_place_of_the_trained_one_is_refused(trained: Installation) -> None:
    # Packed as the model store packs, digests and stamp in order: only the event log knows another digest.
    other = fit_classifier(panel_of(trained, "train_set"), Experiment(seed=7))
    put(trained, other)

    state, figures = State(trained), trained.files()["assets/metrics.json"]
    require_refused(trained, "classifier is not what was stored")
    assert trained.files()["assets/metrics.json"] == figures
    assert state.unchanged()


def require_refused(installation: Installation, *words: str) -> None:
    """Metrics and a version are refused, each in these words."""
    for step in ("metrics", "model_version"):
        refused = installation.execute(dg.AssetSelection.assets(step))
        assert not refused.success
        message = failure_of(refused, step)
        for word in (TamperedArtifactError.__name__, *words):
            assert word in message


def put(installation: Installation, classifier: FittedModel) -> None:
    """A classifier in the place of the trained one, every digest in its archive in order."""
    content = pack_model(classifier, stamp_for("classifier", Experiment()))
    (installation.artifacts / "assets" / "classifier.zip").write_bytes(content)


class Hostile:
    """Its pickle creates a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_an_altered_model_is_neither_unpickled_nor_given_to_lightgbm(trained: Installation, tmp_path: Path) -> None:
    model, _ = unpack_model((trained.artifacts / "assets" / "classifier.zip").read_bytes(), "classifier")
    marker = tmp_path / "opened"
    hostile = replace(model, pickled=pickle.dumps(Hostile(marker)))
    # LightGBM follows such a child out of its memory, and the process ends.
    crashing = replace(model, text=re.sub(r"(?m)^left_child=\S+", "left_child=1000000000", model.text))
    assert crashing.text != model.text
    with trained.entered(), open_instance(trained.settings, trained.database()) as instance:
        loaded = defs.load_asset_value("classifier", instance=instance)
        assert isinstance(loaded, FittedModel)
        for altered in (hostile, crashing):
            put(trained, altered)
            with pytest.raises(TamperedArtifactError, match="--select classifier"):
                defs.load_asset_value("classifier", instance=instance).estimator()  # type: ignore[attr-defined]
    assert not marker.exists()


def test_a_threshold_altered_between_steps_makes_no_version(trained: Installation) -> None:
    path = trained.artifacts / "assets" / "threshold.json"
    stored = json.loads(path.read_bytes())
    other = {**stored["value"], "tau": 0.9, "temperature": 2.0}
    path.write_bytes(to_json(other, stored["stamp"]))

    state = State(trained)
    remedy = "boursomatic materialize --select threshold"
    require_refused(trained, "threshold is not what was stored", str(path), remedy)
    assert state.unchanged()


def test_a_model_changed_by_one_byte_is_refused_before_it_is_read(trained: Installation) -> None:
    path = trained.artifacts / "assets" / "regressor.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    state = State(trained)
    refused = trained.execute(ALONE)
    assert TamperedArtifactError.__name__ in failure_of(refused, "model_version")
    assert state.unchanged()


def remake_with_fewer_rows(installation: Installation, assets: Sequence[str]) -> None:
    """Make some assets and their checks anew from labels of which the newest tenth is gone."""
    labels = panel_of(installation, "labels")
    sessions = labels["session"].unique().sort()
    last = sessions[int(sessions.len() * 0.9)]
    overwrite_panel(installation, "labels", labels.filter(pl.col("session") <= last))
    assert installation.execute(dg.AssetSelection.assets(*assets)).success


def test_models_are_not_recorded_with_a_training_set_that_they_were_not_trained_on(trained: Installation) -> None:
    remake_with_fewer_rows(trained, ["train_set", "validation_set", "test_set"])
    state = State(trained)
    refused = trained.execute(ALONE)
    assert not refused.success
    assert "classifier: train_set" in failure_of(refused, "model_version")
    assert state.unchanged()


def test_models_are_not_recorded_with_figures_of_other_models(trained: Installation) -> None:
    remake_with_fewer_rows(trained, ["train_set", "validation_set", "test_set", "classifier", "regressor"])
    state = State(trained)
    refused = trained.execute(ALONE)
    assert not refused.success
    message = failure_of(refused, "model_version")
    assert "predictions: classifier, regressor, validation_set, test_set" in message
    assert "metrics: classifier, train_set" in message
    assert "feature_importance: classifier, regressor" in message
    assert state.unchanged()


def test_a_set_that_was_replaced_after_the_sets_were_compared_refuses_a_version(trained: Installation) -> None:
    # The shorter labels cut earlier: the new test set begins inside the validation set of before. The check that
    # compares the sets belongs to the training set, and has not looked since.
    remake_with_fewer_rows(trained, ["test_set"])
    assert panel_of(trained, "test_set")["session"].min() <= panel_of(trained, "validation_set")["session"].max()
    assert trained.execute(REMADE).success

    state = State(trained)
    refused = trained.execute(ALONE)
    assert not refused.success
    assert "sets_do_not_touch" in failure_of(refused, "model_version")
    assert state.unchanged()


def test_a_row_that_the_database_refuses_leaves_no_bundle_and_the_active_version_as_it_was(
    trained: Installation,
) -> None:
    # By then the transaction has already taken the mark from the version before.
    run(
        trained.database(),
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no more versions here'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON model_versions FOR EACH ROW EXECUTE FUNCTION refuse();
        """,
    )
    state = State(trained)
    refused = trained.execute(ALONE)
    assert not refused.success
    assert "no more versions here" in failure_of(refused, "model_version")
    assert state.unchanged()
    assert list(trained.artifacts.glob("models/.*")) == []


def test_within_a_run_a_failed_blocking_check_skips_what_follows(trained: Installation) -> None:
    # Another program's bar, with a high below its low, in the table that all bars are read from.
    run(
        trained.database(),
        """
        INSERT INTO price_bars (id, instrument_id, ts, o, h, l, c, v, interval)
        SELECT gen_random_uuid(), id, '1999-01-04', 10, 9, 11, 10, 100, 'daily' FROM instruments
        WHERE symbol = 'IBM'
        """,
    )
    state, files = State(trained), trained.files()
    features = trained.ask("SELECT max(xmin::text::bigint), count(*) FROM features")
    failed = trained.execute()
    assert not failed.success
    evaluations = {made.check_name: made for made in failed.get_asset_check_evaluations()}
    # The bar also stands alone, a year before the others: two warnings, which stop nothing.
    assert {name: made.passed for name, made in evaluations.items()} == {
        "stored_bars_keep_the_contract": False,
        "sessions_have_no_long_gaps": False,
        "sessions_of_xnys": False,
        "sessions_of_xpar": True,
        "sessions_of_xams": True,
        "sessions_of_xbru": True,
        "the_universe_has_arrived": True,
        "jumps_are_explained": True,
    }
    blocking = {name for name, made in evaluations.items() if made.severity is dg.AssetCheckSeverity.ERROR}
    assert blocking == {"stored_bars_keep_the_contract", "the_universe_has_arrived"}
    assert evaluations["stored_bars_keep_the_contract"].metadata["broken_rows"].value == 1
    made = {event.asset_key.to_user_string() for event in failed.all_events if event.is_step_materialization}
    assert made == {"instruments", "price_bars"}
    assert state.unchanged()
    assert trained.files() == files
    assert trained.ask("SELECT max(xmin::text::bigint), count(*) FROM features") == features


def test_a_tampered_bundle_fails_its_check_by_name(trained: Installation) -> None:
    assert trained.execute(ALONE).success
    (active,) = [row for row in trained.versions() if row.is_active]
    recorded = dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("model_version"), "the_bundle_is_what_was_recorded")
    )
    assert check_passed(trained.execute(recorded)) == [True]

    pickled = trained.artifacts / "models" / active.version / "classifier.pkl"
    pickled.write_bytes(pickled.read_bytes() + b".")
    refused = trained.execute(recorded)
    assert not refused.success
    message = failure_of(refused, "model_version_the_bundle_is_what_was_recorded")
    assert TamperedArtifactError.__name__ in message
    assert "classifier.pkl is not the file that was recorded" in message


def test_a_truncated_panel_is_refused_with_its_name(trained: Installation) -> None:
    path = path_of(trained, "train_set")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(pl.exceptions.ComputeError):
        pl.read_parquet(io.BytesIO(path.read_bytes()))
    refused = trained.execute('key:"classifier"')
    message = failure_of(refused, "classifier")
    assert TamperedArtifactError.__name__ in message
    assert "train_set is not what was stored" in message
    assert "boursomatic materialize --select train_set" in message
