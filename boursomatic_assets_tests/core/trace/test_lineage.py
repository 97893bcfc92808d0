"""Column lineage, against what the real computations produce and against ways written out by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Sequence

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
def test_column_dependencies_hold_every_column_in_order(computed: dict[str, pl.DataFrame], asset: str) -> None:
    assert list(column_dependencies(asset)) == computed[asset].columns


def test_column_dependencies_hold_every_column_of_the_baselines_in_order(computed: dict[str, pl.DataFrame]) -> None:
    symbol, session, *others = computed["baselines"].columns
    # the asset says besides of which set a row is
    assert list(column_dependencies("baselines")) == [symbol, session, "set", *others]


def test_column_dependencies_follow_the_chosen_features(computed: dict[str, pl.DataFrame]) -> None:
    chosen = ("vol_20d", "ret_1d")
    narrow = EXPERIMENT.model_copy(update={"features": chosen})
    labels = label_panel(computed["features"], computed["price_bars"], narrow)
    assert list(column_dependencies("labels", chosen)) == labels.columns
    assert list(column_dependencies("train_set", chosen)) == split_panel(labels, narrow).train.columns


def test_column_dependencies_of_features_do_not_depend_on_the_choice() -> None:
    assert column_dependencies("features", ("rsi_14",)) == column_dependencies("features")


def test_column_dependencies_of_the_models_are_their_predictions(computed: dict[str, pl.DataFrame]) -> None:
    predicted = computed["predictions"].columns
    named = [*column_dependencies("classifier"), *column_dependencies("regressor")]
    assert named == [name for name in predicted if name.startswith(("probability_", "predicted_return"))]


def test_column_dependencies_exist(computed: dict[str, pl.DataFrame]) -> None:
    known = {asset: set(panel.columns) for asset, panel in computed.items()}
    known["instruments"] = set(INSTRUMENT_SCHEMA)
    known |= {model: set(column_dependencies(model)) for model in ("classifier", "regressor")}
    for asset in [*computed, "classifier", "regressor"]:
        for parents in column_dependencies(asset).values():
            assert parents
            assert all(column in known[parent] for parent, column in parents)


@pytest.mark.parametrize("feature", FEATURES, ids=FEATURE_NAMES)
def test_column_dependencies_of_a_feature_are_what_it_reads(
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


def of(asset: str, *columns: str) -> list[tuple[str, str]]:
    return [(asset, column) for column in columns]


def of_every_row(column: str, of_labels: str | None = None) -> list[tuple[str, str]]:
    """A column of both unseen sets, and of the labels for rows whose instrument ended too early to be in a set."""
    return [("validation_set", column), ("test_set", column), ("labels", of_labels or column)]


CLASSES = ("buy", "hold", "sell")
PROBABILITIES = of("classifier", *(f"probability_{name}" for name in CLASSES))
RANGE_AND_CLOSE = [("features", "atr_14"), ("price_bars", "close")]
LEARNED, LEARNED_OF_FOLD = (of(asset, "ret_1d", "vol_20d", "label") for asset in ("train_set", "labels"))
# Asset, inputs of the experiment, and columns with what they are made from.
WRITTEN_OUT = [
    ("features", DEFAULT_INPUTS, {"atr_14": of("price_bars", "close", "high", "low")}),
    ("features", DEFAULT_INPUTS, {"session": of("price_bars", "session")}),
    ("test_set", DEFAULT_INPUTS, {"symbol": of("labels", "symbol")}),
    # a derived input comes from its features and the close
    ("labels", ["natr_14"], {"natr_14": RANGE_AND_CLOSE}),
    ("train_set", ["natr_14"], {"natr_14": of("labels", "natr_14")}),
    # each once, though three things are made from the range and two from the close
    ("recommendations", ["natr_14", "atr_14"], {
        "confidence": [*RANGE_AND_CLOSE, *PROBABILITIES],
        "stop_loss": [*RANGE_AND_CLOSE, *PROBABILITIES, ("features", "vol_20d")],
    }),
    ("predictions", ["rsi_14"], {
        "symbol": of_every_row("symbol"), "set": of_every_row("session"),
        "label": of_every_row("label", "realised_return"),
        "forward_return": of_every_row("forward_return", "realised_return"),
        "label_end": of_every_row("label_end", "realised_on"), "ended_early": of_every_row("label"),
        "predicted_label": PROBABILITIES, "probability_sell": PROBABILITIES[2:],
        "predicted_return": of("regressor", "predicted_return"),
    }),
    ("predictions", ["vol_20d"], {"vol_20d": of_every_row("vol_20d")}),
    # learned from volatility and label; said of the volatility of every judged row
    ("baselines", DEFAULT_INPUTS, {
        "set": of_every_row("session"), "momentum_12_1": of("price_bars", "close"),
        "prior_return": of("train_set", "forward_return"),
        **{f"prior_probability_{name}": of("train_set", "label") for name in CLASSES},
        **{
            f"volatility_probability_{name}": [*LEARNED[1:], *of_every_row("vol_20d")] for name in CLASSES
        },
    }),
    # one column, though both what is learned from and what is predicted has it
    ("walk_forward", ["ret_1d", "vol_20d"], {
        "fold": of("labels", "session"), "probability_buy": LEARNED_OF_FOLD, "predicted_label": LEARNED_OF_FOLD,
        "predicted_return": of("labels", "ret_1d", "vol_20d", "forward_return"),
        "volatility_probability_sell": LEARNED_OF_FOLD[1:], "vol_20d": of("labels", "vol_20d"),
    }),
    # a limit on volatility counts whether or not the model reads it
    ("recommendations", ["ret_1d"], {
        "symbol": of("instruments", "symbol"), "confidence": [("features", "ret_1d"), *PROBABILITIES],
        "label": [("features", "ret_1d"), *PROBABILITIES, ("features", "vol_20d")],
        "expected_return_pct": [("features", "ret_1d"), ("regressor", "predicted_return")],
        **{
            name: [("features", "ret_1d"), *PROBABILITIES, ("features", "vol_20d"), *RANGE_AND_CLOSE]
            for name in ("stop_loss", "take_profit")
        },
    }),
]  # fmt: skip


@pytest.mark.parametrize(("asset", "features", "expected"), WRITTEN_OUT)
def test_column_dependencies_are_those_written_out(
    asset: str, features: Sequence[str], expected: dict[str, list[tuple[str, str]]]
) -> None:
    dependencies = column_dependencies(asset, features)
    assert {name: dependencies[name] for name in expected} == expected


# Assets of which every column is written out.
WHOLE = [
    ("price_bars", {"symbol": of("instruments", "symbol")}),
    ("labels", {
        **{name: of("features", name) for name in ("symbol", "session")}, "close": of("price_bars", "close"),
        "ret_1d": of("features", "ret_1d"), "vol_20d": of("features", "vol_20d"),
        **{name: of("price_bars", "close") for name in ("forward_return", "label", "realised_return")},
        **{name: of("price_bars", "session") for name in ("label_end", "realised_on")},
    }),
    ("classifier", {f"probability_{name}": LEARNED for name in CLASSES}),
    ("regressor", {"predicted_return": of("train_set", "ret_1d", "vol_20d", "forward_return")}),
    ("metrics", {}),
]  # fmt: skip


@pytest.mark.parametrize(("asset", "expected"), WHOLE)
def test_column_dependencies_of_a_whole_asset(asset: str, expected: dict[str, list[tuple[str, str]]]) -> None:
    assert column_dependencies(asset, ["ret_1d", "vol_20d"]) == expected


def test_column_dependencies_without_volatility_have_no_such_baseline() -> None:
    for asset in ("baselines", "walk_forward"):
        dependencies = column_dependencies(asset, ["rsi_14"])
        assert [name for name in dependencies if name.startswith("vol")] == []
        assert dependencies["momentum_12_1"] == [("price_bars", "close")]


def test_column_dependencies_of_recommendations_are_in_order() -> None:
    made = [*RECOMMENDATION_SCHEMA, "justification"]
    assert list(column_dependencies("recommendations")) == [
        name for name in made if name not in {"profile", "horizon_days"}
    ]


@pytest.mark.parametrize("column", [("metrics", "sharpe_ratio"), ("instruments", "symbol")])
def test_upstream_columns_without_lineage_are_none(column: tuple[str, str]) -> None:
    assert upstream_columns(*column) == []


def test_upstream_columns_of_a_prediction_layer_by_layer() -> None:
    # the label takes the shorter way to the close, past the features; the close is listed at the end of the
    # longer one, through rsi_14
    assert upstream_columns("classifier", "probability_buy", ["rsi_14"]) == [
        [("train_set", "rsi_14"), ("train_set", "label")],
        [("labels", "rsi_14"), ("labels", "label")],
        [("features", "rsi_14")],
        [("price_bars", "close")],
    ]


def test_upstream_columns_of_the_classifier_hold_all_prices_but_the_open() -> None:
    *_, bars = upstream_columns("classifier", "probability_buy")
    assert set(bars) == {("price_bars", name) for name in ("close", "high", "low", "volume")}


def test_upstream_columns_of_a_key_end_at_the_instrument() -> None:
    assert upstream_columns("labels", "symbol") == [
        [("features", "symbol")],
        [("price_bars", "symbol")],
        [("instruments", "symbol")],
    ]


def test_lineage_edges_hold_each_step_once() -> None:
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


def test_lineage_edges_lead_from_each_feature_to_every_prediction() -> None:
    # three probabilities and one return
    edges = lineage_edges(["classifier", "regressor"])
    for name in DEFAULT_INPUTS:
        assert len([parent for parent, _ in edges if parent == ("train_set", name)]) == 3 + 1
