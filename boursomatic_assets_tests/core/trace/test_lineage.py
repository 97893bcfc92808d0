"""Column lineage, against what the real computations produce and against ways written out by hand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import (
    DEFAULT_INPUTS,
    FEATURE_NAMES,
    FEATURES,
    Feature,
    compute_features,
)
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA
from boursomatic_assets.core.models.baselines import baseline_columns, fit_volatility_classifier
from boursomatic_assets.core.models.folds import plan_folds
from boursomatic_assets.core.models.predictions import predict_sets
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor
from boursomatic_assets.core.models.walk_forward import run_fold
from boursomatic_assets.core.recommendations.calls import RECOMMENDATION_SCHEMA
from boursomatic_assets.core.trace.lineage import column_dependencies, lineage_edges, upstream_columns

SESSIONS = 200
BOOSTER = BoosterParameters(n_estimators=2, min_child_samples=5)
EXPERIMENT = Experiment(horizon=2, buy_threshold=0.01, sell_threshold=-0.01, classifier=BOOSTER, regressor=BOOSTER)


def bars_of(symbol: str, seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.02, SESSIONS)))
    return pl.DataFrame(
        {
            "symbol": symbol,
            "session": [date(2020, 1, 1) + timedelta(days=day) for day in range(SESSIONS)],
            "open": close,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "volume": generator.uniform(1e6, 2e6, SESSIONS),
        }
    )


@pytest.fixture(scope="module")
def computed() -> dict[str, pl.DataFrame]:
    """Assets that hold a panel, as the real computations make them."""
    bars = pl.concat([bars_of("AAA", 1), bars_of("BBB", 2)])
    features = compute_features(bars)
    labels = label_panel(features, bars, EXPERIMENT)
    split = split_panel(labels, EXPERIMENT)
    models = fit_classifier(split.train, EXPERIMENT), fit_regressor(split.train, EXPERIMENT)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, EXPERIMENT)
    predictions = predict_sets(judged, *models)
    panels = {"price_bars": bars, "features": features, "labels": labels, **split.sets()}
    volatility = fit_volatility_classifier(split.train, EXPERIMENT)
    baselines = baseline_columns(split.test, split.train, volatility, labels)
    fold = run_fold(labels, plan_folds(labels, EXPERIMENT)[-1], EXPERIMENT)
    return {**panels, "predictions": predictions, "baselines": baselines, "walk_forward": fold.panel}


@pytest.mark.parametrize(
    "asset", ["features", "labels", "train_set", "validation_set", "test_set", "predictions", "walk_forward"]
)
def test_every_computed_column_has_its_lineage_in_order(computed: dict[str, pl.DataFrame], asset: str) -> None:
    assert list(column_dependencies(asset)) == computed[asset].columns


def test_every_column_of_the_baselines_has_its_lineage_in_order(computed: dict[str, pl.DataFrame]) -> None:
    symbol, session, *others = computed["baselines"].columns
    # the asset says besides of which set a row is
    assert list(column_dependencies("baselines")) == [symbol, session, "set", *others]


def test_a_chosen_feature_set_shapes_labels_and_sets_as_the_computation_does(
    computed: dict[str, pl.DataFrame],
) -> None:
    chosen = ("vol_20d", "ret_1d")
    narrow = EXPERIMENT.model_copy(update={"features": chosen})
    labels = label_panel(computed["features"], computed["price_bars"], narrow)
    assert list(column_dependencies("labels", chosen)) == labels.columns
    assert list(column_dependencies("train_set", chosen)) == split_panel(labels, narrow).train.columns


def test_a_chosen_feature_set_leaves_the_features_asset_whole() -> None:
    assert column_dependencies("features", ("rsi_14",)) == column_dependencies("features")


def test_predictions_of_both_models_are_columns_of_the_predicted_panel(computed: dict[str, pl.DataFrame]) -> None:
    predicted = computed["predictions"].columns
    named = [*column_dependencies("classifier"), *column_dependencies("regressor")]
    assert named == [name for name in predicted if name.startswith(("probability_", "predicted_return"))]


def test_every_upstream_column_exists(computed: dict[str, pl.DataFrame]) -> None:
    known = {asset: set(panel.columns) for asset, panel in computed.items()}
    known["instruments"] = set(INSTRUMENT_SCHEMA)
    known |= {model: set(column_dependencies(model)) for model in ("classifier", "regressor")}
    for asset in [*computed, "classifier", "regressor"]:
        for parents in column_dependencies(asset).values():
            assert parents
            assert all(column in known[parent] for parent, column in parents)


@pytest.mark.parametrize("feature", FEATURES, ids=FEATURE_NAMES)
def test_a_feature_reads_the_named_columns_of_the_bars_and_no_other(
    computed: dict[str, pl.DataFrame], feature: Feature
) -> None:
    bars = computed["price_bars"]
    named = [column for _, column in column_dependencies("features")[feature.name]]
    others = [name for name in BAR_SCHEMA if name not in (*named, "symbol", "session")]
    overwritten = bars.with_columns(pl.lit(1.0).alias(name) for name in others)
    assert compute_features(overwritten)[feature.name].equals(computed["features"][feature.name], null_equal=True)
    for name in named:
        changed = bars.with_columns(pl.col(name) ** 2)
        after = compute_features(changed)[feature.name]
        assert not after.equals(computed["features"][feature.name], null_equal=True)


def test_atr_comes_from_close_high_and_low() -> None:
    expected = [("price_bars", "close"), ("price_bars", "high"), ("price_bars", "low")]
    assert column_dependencies("features")["atr_14"] == expected


def test_the_keys_are_carried_along() -> None:
    assert column_dependencies("price_bars") == {"symbol": [("instruments", "symbol")]}
    assert column_dependencies("features")["session"] == [("price_bars", "session")]
    assert column_dependencies("labels")["symbol"] == [("features", "symbol")]
    assert column_dependencies("test_set")["symbol"] == [("labels", "symbol")]


def test_a_derived_input_comes_from_its_features_and_the_close() -> None:
    both = [("features", "atr_14"), ("price_bars", "close")]
    assert column_dependencies("labels", ["natr_14"])["natr_14"] == both
    assert column_dependencies("train_set", ["natr_14"])["natr_14"] == [("labels", "natr_14")]
    dependencies = column_dependencies("recommendations", ["natr_14", "atr_14"])
    probabilities = [("classifier", f"probability_{name}") for name in ("buy", "hold", "sell")]
    # Each once, though three things are made from the range and two from the close.
    assert dependencies["confidence"] == [*both, *probabilities]
    assert dependencies["stop_loss"] == [*both, *probabilities, ("features", "vol_20d")]


def test_labels_take_features_from_features_and_outcomes_from_the_bars() -> None:
    assert column_dependencies("labels", ["rsi_14"]) == {
        "symbol": [("features", "symbol")],
        "session": [("features", "session")],
        "close": [("price_bars", "close")],
        "rsi_14": [("features", "rsi_14")],
        "forward_return": [("price_bars", "close")],
        "label_end": [("price_bars", "session")],
        "label": [("price_bars", "close")],
        "realised_return": [("price_bars", "close")],
        "realised_on": [("price_bars", "session")],
    }


def test_models_learn_from_the_training_set_their_features_and_their_target() -> None:
    features = [("train_set", "ret_1d"), ("train_set", "vol_20d")]
    learned = [*features, ("train_set", "label")]
    assert column_dependencies("classifier", ["ret_1d", "vol_20d"]) == {
        "probability_buy": learned,
        "probability_hold": learned,
        "probability_sell": learned,
    }
    assert column_dependencies("regressor", ["ret_1d", "vol_20d"]) == {
        "predicted_return": [*features, ("train_set", "forward_return")]
    }


def test_predictions_carry_keys_and_outcomes_of_both_unseen_sets_along() -> None:
    dependencies = column_dependencies("predictions", ["rsi_14"])
    # of the labels are the rows whose instrument ended too early to be in a set
    assert dependencies["symbol"] == [("validation_set", "symbol"), ("test_set", "symbol"), ("labels", "symbol")]
    assert dependencies["set"] == [("validation_set", "session"), ("test_set", "session"), ("labels", "session")]
    for name, realised in {"label": "return", "forward_return": "return", "label_end": "on"}.items():
        assert dependencies[name] == [
            ("validation_set", name), ("test_set", name), ("labels", f"realised_{realised}"),
        ]  # fmt: skip
    assert dependencies["ended_early"][-1] == ("labels", "label")
    probabilities = [("classifier", f"probability_{name}") for name in ("buy", "hold", "sell")]
    assert dependencies["predicted_label"] == probabilities
    assert dependencies["probability_sell"] == probabilities[2:]
    assert dependencies["predicted_return"] == [("regressor", "predicted_return")]
    # volatility goes along where it is a feature
    assert "vol_20d" not in dependencies
    assert column_dependencies("predictions", ["vol_20d"])["vol_20d"] == [
        ("validation_set", "vol_20d"), ("test_set", "vol_20d"), ("labels", "vol_20d"),
    ]  # fmt: skip


def test_baselines_come_from_volatility_past_closes_and_the_outcomes_trained_on() -> None:
    dependencies = column_dependencies("baselines")
    assert dependencies["set"] == [("validation_set", "session"), ("test_set", "session"), ("labels", "session")]
    # learned from volatility and label; said of the volatility of every judged row
    by_volatility = [
        ("train_set", "vol_20d"), ("train_set", "label"), ("validation_set", "vol_20d"), ("test_set", "vol_20d"),
        ("labels", "vol_20d"),
    ]  # fmt: skip
    for name in ("buy", "hold", "sell"):
        assert dependencies[f"volatility_probability_{name}"] == by_volatility
        assert dependencies[f"prior_probability_{name}"] == [("train_set", "label")]
    assert dependencies["momentum_12_1"] == [("price_bars", "close")]
    assert dependencies["prior_return"] == [("train_set", "forward_return")]


def test_without_volatility_among_the_features_its_classifier_says_nothing() -> None:
    for asset in ("baselines", "walk_forward"):
        dependencies = column_dependencies(asset, ["rsi_14"])
        assert [name for name in dependencies if name.startswith("vol")] == []
        assert dependencies["momentum_12_1"] == [("price_bars", "close")]


def test_a_fold_trains_and_predicts_on_rows_of_the_labels() -> None:
    dependencies = column_dependencies("walk_forward", ["ret_1d", "vol_20d"])
    learned = [("labels", "ret_1d"), ("labels", "vol_20d"), ("labels", "label")]
    assert dependencies["fold"] == [("labels", "session")]
    assert dependencies["probability_buy"] == dependencies["predicted_label"] == learned
    assert dependencies["predicted_return"] == [*learned[:2], ("labels", "forward_return")]
    # one column, though both what is learned from and what is predicted has it
    assert dependencies["volatility_probability_sell"] == learned[1:]
    assert dependencies["vol_20d"] == [("labels", "vol_20d")]


def test_every_column_of_a_recommendation_but_what_the_experiment_says_has_its_lineage_in_order() -> None:
    made = [*RECOMMENDATION_SCHEMA, "justification"]
    assert list(column_dependencies("recommendations")) == [
        name for name in made if name not in {"profile", "horizon_days"}
    ]


def test_a_recommendation_comes_from_the_newest_features_the_close_and_both_models() -> None:
    dependencies = column_dependencies("recommendations", ["ret_1d"])
    features = [("features", "ret_1d")]
    probabilities = [("classifier", f"probability_{name}") for name in ("buy", "hold", "sell")]
    assert dependencies["confidence"] == [*features, *probabilities]
    # Too wild for the profile, whether or not the model reads volatility.
    assert dependencies["label"] == [*features, *probabilities, ("features", "vol_20d")]
    assert dependencies["expected_return_pct"] == [*features, ("regressor", "predicted_return")]
    for name in ("stop_loss", "take_profit"):
        assert dependencies[name][-2:] == [("features", "atr_14"), ("price_bars", "close")]
    assert dependencies["symbol"] == [("instruments", "symbol")]


def test_an_asset_without_column_lineage_has_none() -> None:
    assert column_dependencies("metrics") == {}
    assert upstream_columns("metrics", "sharpe_ratio") == []


def test_a_column_of_the_instruments_has_no_ancestors() -> None:
    assert upstream_columns("instruments", "symbol") == []


def test_a_prediction_is_followed_back_to_the_bars_layer_by_layer() -> None:
    # the label takes the shorter way to the close, past the features; the close is listed at the end of the
    # longer one, through rsi_14
    assert upstream_columns("classifier", "probability_buy", ["rsi_14"]) == [
        [("train_set", "rsi_14"), ("train_set", "label")],
        [("labels", "rsi_14"), ("labels", "label")],
        [("features", "rsi_14")],
        [("price_bars", "close")],
    ]


def test_the_classifier_reaches_every_price_it_reads_and_the_volume_but_not_the_open() -> None:
    *_, bars = upstream_columns("classifier", "probability_buy")
    assert set(bars) == {("price_bars", name) for name in ("close", "high", "low", "volume")}


def test_a_key_is_followed_back_to_the_instrument() -> None:
    assert upstream_columns("labels", "symbol") == [
        [("features", "symbol")],
        [("price_bars", "symbol")],
        [("instruments", "symbol")],
    ]


def test_edges_are_each_step_on_the_way_once() -> None:
    edges = lineage_edges(["regressor"], ["volume_zscore"])
    assert len(edges) == len(set(edges))
    assert set(edges) == {
        (("price_bars", "volume"), ("features", "volume_zscore")),
        (("features", "volume_zscore"), ("labels", "volume_zscore")),
        (("labels", "volume_zscore"), ("train_set", "volume_zscore")),
        (("train_set", "volume_zscore"), ("regressor", "predicted_return")),
        (("price_bars", "close"), ("labels", "forward_return")),
        (("labels", "forward_return"), ("train_set", "forward_return")),
        (("train_set", "forward_return"), ("regressor", "predicted_return")),
    }


def test_each_feature_leaves_the_training_set_towards_every_prediction() -> None:
    # three probabilities and one return
    edges = lineage_edges(["classifier", "regressor"])
    for name in DEFAULT_INPUTS:
        assert len([parent for parent, _ in edges if parent == ("train_set", name)]) == 3 + 1
