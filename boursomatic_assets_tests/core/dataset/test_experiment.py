from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from boursomatic_assets.core.dataset.experiment import (
    PROFILE_NAMES,
    BoosterParameters,
    Experiment,
    Profile,
    Profiles,
    Promotion,
    WalkForward,
)
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, FEATURE_NAMES
from boursomatic_assets.errors import ConfigurationError

# Another valid value of every field.
OTHER: dict[str, Any] = {
    "lookback_days": 1000, "features": ("ret_1d", "vol_20d"), "horizon": 10, "buy_threshold": 0.06,
    "sell_threshold": -0.03, "train_fraction": 0.6, "validation_fraction": 0.2, "embargo": 5,
    "classifier": BoosterParameters(num_leaves=15), "regressor": BoosterParameters(num_leaves=15), "seed": 7,
    "cost_bps": 20.0, "benchmark": "SPY", "bootstrap_draws": 500, "walk_forward": WalkForward(folds=4),
    "profiles": Profiles(moderate=Profile(stop_atr=1.0)), "language": "fr", "promotion": Promotion(mode="never"),
}  # fmt: skip
OTHER_BOOSTER: dict[str, Any] = {
    "n_estimators": 50, "learning_rate": 0.1, "max_depth": -1, "num_leaves": 15, "min_child_samples": 5,
    "subsample": 1.0, "subsample_freq": 2, "colsample_bytree": 1.0,
}  # fmt: skip
# The use of a model's probabilities shapes no asset that is trained or judged.
WHOLE = set(OTHER) - {"profiles", "language", "promotion"}
JUDGED = WHOLE - {"walk_forward"}
LABELS = {"lookback_days", "features", "horizon", "buy_threshold", "sell_threshold", "benchmark"}
SETS = LABELS | {"train_fraction", "validation_fraction", "embargo"}
MODELS = SETS | {"classifier", "regressor", "seed"}
SHAPED_BY: dict[str, set[str]] = {
    "instruments": set(), "price_bars": set(), "features": set(), "labels": LABELS,
    "train_set": SETS, "validation_set": SETS, "test_set": SETS,
    "classifier": SETS | {"classifier", "seed"}, "regressor": SETS | {"regressor", "seed"},
    "feature_importance": MODELS, "predictions": MODELS, "threshold": MODELS | {"bootstrap_draws"},
    "baselines": SETS | {"classifier", "seed"},
    "metrics": JUDGED, "portfolio": JUDGED, "positions": JUDGED, "trades": JUDGED, "evaluation": JUDGED,
    "walk_forward": LABELS | {"embargo", "classifier", "regressor", "seed", "walk_forward"},
    "walk_forward_summary": WHOLE, "report": WHOLE, "model_version": WHOLE,
}  # fmt: skip


def profile(probability: float, volatility: float, stop: float, target: float) -> dict[str, float]:
    return dict(zip(Profile.model_fields, (probability, probability, volatility, stop, target), strict=True))


def test_experiment_defaults_are_the_reference_configuration() -> None:
    booster = {
        "n_estimators": 100, "learning_rate": 0.05, "max_depth": 5, "num_leaves": 31, "min_child_samples": 20,
        "subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8,
    }  # fmt: skip
    assert Experiment().model_dump() == {
        "lookback_days": 2000,
        "features": (
            "ret_1d", "ret_5d", "ret_20d", "rsi_14", "momentum_5d", "vol_20d", "natr_14", "volume_zscore",
        ),
        "horizon": 20, "buy_threshold": 0.05, "sell_threshold": -0.02,
        "train_fraction": 0.70, "validation_fraction": 0.15, "embargo": 0,
        "classifier": booster, "regressor": booster, "seed": 42,
        "cost_bps": 10.0, "benchmark": None, "bootstrap_draws": 2000,
        "walk_forward": {"folds": 8, "window": "expanding", "history_fraction": 0.4},
        "profiles": {
            "conservative": profile(0.50, 0.02, 2.0, 3.0),
            "moderate": profile(0.40, 0.03, 2.5, 4.0),
            "aggressive": profile(0.35, 0.05, 3.0, 4.5),
        },
        "language": "en",
        "promotion": {"mode": "gate", "margin": 0.005},
    }  # fmt: skip
    assert Experiment.parse({}) == Experiment()
    assert list(Profile.model_fields) == [
        "buy_probability", "sell_probability", "max_volatility", "stop_atr", "target_atr",
    ]  # fmt: skip


def test_experiment_features_are_those_of_the_table_and_derived_inputs() -> None:
    # Stored versions were trained with atr_14: their experiments stay readable.
    assert Experiment(features=(*FEATURE_NAMES, "natr_14")).features == (*FEATURE_NAMES, "natr_14")
    with pytest.raises(ConfigurationError, match=r"natr_14.*unknown: \['natr_15', 'price'\]"):
        Experiment.parse({"features": ["natr_15", "ret_1d", "price"]})


def test_every_field_has_a_description_and_another_value_here() -> None:
    assert set(OTHER) == set(Experiment.model_fields)
    assert set(OTHER_BOOSTER) == set(BoosterParameters.model_fields)
    models = (Experiment, BoosterParameters, WalkForward, Profile, Profiles, Promotion)
    assert all(field.description for model in models for field in model.model_fields.values())


def test_params_hash_leaves_out_profiles_language_and_promotion() -> None:
    assert set(Experiment.model_fields) - WHOLE == {"profiles", "language", "promotion"}
    # Each field by itself: see the fingerprint for "model_version" below.
    assert Experiment().params_hash == Experiment().fingerprint_for("model_version")


@pytest.mark.parametrize("field", BoosterParameters.model_fields)
@pytest.mark.parametrize("model", ["classifier", "regressor"])
def test_params_hash_changes_with_every_booster_parameter(model: str, field: str) -> None:
    changed = Experiment.parse({model: {field: OTHER_BOOSTER[field]}})
    assert changed.params_hash != Experiment().params_hash


def test_params_hash_changes_with_model_and_feature_order() -> None:
    booster = BoosterParameters(num_leaves=15)
    assert Experiment(classifier=booster).params_hash != Experiment(regressor=booster).params_hash
    assert Experiment(features=DEFAULT_INPUTS[::-1]).params_hash != Experiment().params_hash


@given(st.permutations(list(OTHER)))
def test_params_hash_does_not_depend_on_field_order(order: list[str]) -> None:
    assert Experiment.parse({name: OTHER[name] for name in order}).params_hash == Experiment(**OTHER).params_hash


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"cost_bps": 20}, {"cost_bps": 20.0}),
        ({"features": ["ret_1d"]}, {"features": ("ret_1d",)}),
        ({"classifier": {"num_leaves": 15}}, {"classifier": BoosterParameters(num_leaves=15)}),
        ({"cost_bps": -0.0}, {"cost_bps": 0.0}),
        ({"sell_threshold": -0.0}, {"sell_threshold": 0.0}),
    ],
)
def test_params_hash_is_equal_for_equal_experiments(one: dict[str, Any], same: dict[str, Any]) -> None:
    first, second = Experiment.parse(one), Experiment.parse(same)
    assert first == second
    assert first.params_hash == second.params_hash


def test_fingerprint_for_hashes_the_canonical_json() -> None:
    # keys in alphabetical order, no spaces
    text = (
        b'{"benchmark":null,"buy_threshold":0.05,"features":["ret_1d"],"horizon":20,"lookback_days":2000,'
        b'"sell_threshold":-0.02}'
    )
    assert Experiment(features=("ret_1d",)).fingerprint_for("labels") == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_params_hash_is_the_same_in_another_process(hash_seed: str) -> None:
    code = "from boursomatic_assets.core.dataset.experiment import Experiment; print(Experiment().params_hash)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == Experiment().params_hash


@pytest.mark.parametrize("asset", SHAPED_BY)
def test_part_for_an_asset_has_exactly_its_fields(asset: str) -> None:
    assert set(Experiment().part_for(asset)) == SHAPED_BY[asset]


@pytest.mark.parametrize("asset", SHAPED_BY)
@pytest.mark.parametrize("field", OTHER)
def test_fingerprint_for_an_asset_changes_with_its_fields_only(asset: str, field: str) -> None:
    changed = Experiment(**{field: OTHER[field]}).fingerprint_for(asset) != Experiment().fingerprint_for(asset)
    assert changed == (field in SHAPED_BY[asset])


def test_experiment_survives_json() -> None:
    experiment = Experiment(**OTHER)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    assert Experiment.parse(experiment.model_dump(mode="json")).params_hash == experiment.params_hash


INVALID: dict[str, tuple[Any, ...]] = {
    "lookback_days": (0,),
    "features": ([], ["ret_1d", "price"], ["ret_1d", "ret_1d"]),
    "horizon": (0, 2.5, "soon", None),
    "buy_threshold": (-0.02, math.nan, math.inf),
    "sell_threshold": (0.06, math.nan, -math.inf),
    "train_fraction": (0.0, 1.0, 0.85),
    "validation_fraction": (0.0, 0.3),
    "embargo": (-1,),
    "seed": (-1,),
    "cost_bps": (-1.0, math.nan, math.inf),
    "classifier.n_estimators": (0,),
    "classifier.learning_rate": (0.0,),
    "classifier.max_depth": (-2,),
    "classifier.bagging": (1,),
    "regressor.num_leaves": (1, 131_073),
    "regressor.min_child_samples": (0,),
    "regressor.subsample": (1.1,),
    "regressor.subsample_freq": (0,),
    "regressor.colsample_bytree": (0.0,),
    "bootstrap_draws": (99,),
    "walk_forward.folds": (0,),
    "walk_forward.window": ("sliding",),
    "walk_forward.history_fraction": (1.0,),
    "profiles.moderate.buy_probability": (0.0,),
    "profiles.moderate.sell_probability": (1.1,),
    "profiles.moderate.max_volatility": (math.inf,),
    "profiles.moderate.stop_atr": (0.0,),
    "profiles.moderate.target_atr": (-1.0,),
    "profiles.reckless": ({},),
    "language": ("de",),
    "promotion.mode": ("perhaps",),
    "promotion.margin": (-0.001, math.inf),
    "horizons": (20,),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in INVALID for value in INVALID[field]])
def test_parse_refuses_an_invalid_value_by_its_field(field: str, value: object) -> None:
    values = value
    for name in reversed(field.split(".")):
        values = {name: values}
    with pytest.raises(ConfigurationError) as caught:
        Experiment.parse(values)  # type: ignore[arg-type]
    # named before what was found, since the values found may be a whole experiment
    assert re.search(rf"\n  [^(]*\b{field}\b", str(caught.value))
    assert str(caught.value).startswith("the experiment cannot be used:")


def test_parse_names_every_invalid_field_and_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Experiment.parse({"horizon": 0, "cost_bps": -3.0})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("  horizon: ")
    assert "(found 0)" in lines[1]
    assert lines[2].startswith("  cost_bps: ")
    assert "(found -3.0)" in lines[2]


def test_experiment_is_frozen_and_hashable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Experiment().horizon = 10  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Experiment().classifier.num_leaves = 10  # type: ignore[misc]
    assert {Experiment(): "a", Experiment(horizon=20): "b"} == {Experiment(): "b"}
    assert len({Experiment(), Experiment(horizon=10)}) == 2


def test_profiles_items_begin_with_the_strictest() -> None:
    profiles = Experiment().profiles
    assert [name for name, _ in profiles.items()] == list(PROFILE_NAMES) == list(Profiles.model_fields)
    assert profiles.items()[1] == ("moderate", profiles.moderate)


@pytest.mark.parametrize(
    ("bold", "calm", "bounds"),
    [
        # the conservative profile needs 0.50 and takes a volatility of up to 0.02, the moderate one needs 0.40
        ("moderate", "conservative", {"buy_probability": 0.51}),
        ("moderate", "conservative", {"sell_probability": 0.51}),
        ("moderate", "conservative", {"max_volatility": 0.019}),
        ("aggressive", "moderate", {"buy_probability": 0.41, "sell_probability": 0.42}),
    ],
)
def test_profiles_refuse_a_bolder_one_that_is_stricter(bold: str, calm: str, bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Experiment.parse({"profiles": {bold: bounds}})
    assert f"profile {bold} must not be stricter than {calm}" in str(caught.value)
    assert f"it is in: {', '.join(bounds)} (found" in str(caught.value)


def test_profiles_may_be_equal() -> None:
    profiles = Profiles(conservative=Profile(), moderate=Profile(), aggressive=Profile())
    assert {chosen for _, chosen in profiles.items()} == {Profile()}
