from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.models.contributions import Contributions, feature_contributions, spread_rows
from boursomatic_assets.core.models.training import FittedModel, fit_classifier, fit_regressor, model_matrix

FEW = BoosterParameters(n_estimators=5)
EXPERIMENT = Experiment(features=("ret_1d", "vol_20d"), classifier=FEW, regressor=FEW)
ROWS = 400


def panel_of(rows: int = ROWS) -> pl.DataFrame:
    """Only `ret_1d` decides; `vol_20d` is the same everywhere, so that no tree can split on it."""
    signal = np.random.default_rng(3).normal(size=rows)
    label = np.where(signal > 0.5, "BUY", np.where(signal < -0.5, "SELL", "HOLD"))
    return pl.DataFrame(
        {"ret_1d": signal, "vol_20d": np.full(rows, 0.2), "forward_return": signal / 10, "label": label},
        schema_overrides={"label": LABEL_TYPE},
    )


@pytest.fixture(scope="module")
def classifier() -> FittedModel:
    return fit_classifier(panel_of(), EXPERIMENT, 1)


def test_feature_contributions_add_up_to_the_raw_score(classifier: FittedModel) -> None:
    panel = panel_of()
    found = feature_contributions(classifier, panel)
    raw = classifier.booster.predict(model_matrix(panel, EXPERIMENT.features), raw_score=True)
    assert found.output_names == ("BUY", "HOLD", "SELL")
    assert found.values.shape == (ROWS, 3, 2)
    np.testing.assert_allclose(found.values.sum(axis=2) + found.expected, raw, atol=1e-9)
    # a feature that no tree uses contributes nothing
    assert (found.values[:, :, 1] == 0).all()
    assert found.mean_absolute()["feature"].to_list() == ["ret_1d", "vol_20d"]
    regressor = fit_regressor(panel, EXPERIMENT, 1)
    found = feature_contributions(regressor, panel)
    assert found.output_names == ("forward return",)
    np.testing.assert_allclose(found.values[:, 0].sum(axis=1) + found.expected[:, 0], regressor.predict(panel))


def test_feature_contributions_of_no_rows_are_zero(classifier: FittedModel) -> None:
    found = feature_contributions(classifier, panel_of().clear())
    assert found.values.shape == (0, 3, 2)
    assert found.mean_absolute().select("BUY", "HOLD", "SELL").sum().row(0) == (0.0, 0.0, 0.0)


def test_mean_absolute_ranks_by_the_sum_over_outputs() -> None:
    # a: (|1| + |-3|) / 2 = 2 for x, (0 + 0) / 2 = 0 for y, together 2; b: (0.5 + 0.5) / 2 = 0.5 and (2 + 4) / 2 = 3
    values = np.array([[[1.0, 0.5], [0.0, 2.0]], [[-3.0, -0.5], [0.0, -4.0]]])
    found = Contributions(("a", "b"), ("x", "y"), values, np.zeros((2, 2)), np.zeros((2, 2)))
    assert found.mean_absolute().rows() == [("b", 0.5, 3.0), ("a", 2.0, 0.0)]


def test_spread_rows_by_hand() -> None:
    # 0, 9 / 3, 18 / 3, 27 / 3 of the numbers 0 to 9
    assert spread_rows(pl.DataFrame({"row": range(10)}), 4)["row"].to_list() == [0, 3, 6, 9]


@given(st.integers(0, 300), st.integers(1, 50))
def test_spread_rows_picks_each_row_once(rows: int, count: int) -> None:
    picked = spread_rows(pl.DataFrame({"row": range(rows)}), count)["row"].to_list()
    assert len(picked) == min(rows, count)
    assert picked == sorted(set(picked))
