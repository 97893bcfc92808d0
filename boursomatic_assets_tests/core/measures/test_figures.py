from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest

from boursomatic_assets.core.measures.figures import Figure, finite


def test_figure_to_json_has_every_field_under_its_name() -> None:
    values = ("rank_ic", "Rank IC", "ranking", 0.02, -0.01, 0.05, 0.1, 0.0, 0.03, "12-1 momentum", "number")
    names = [field.name for field in fields(Figure)]
    # There is a value: nothing to explain.
    assert list(Figure(*values, "no").to_json().items()) == list(zip(names, (*values, None), strict=True))
    assert names == [
        "name", "title", "group", "value", "low", "high", "p_value", "no_skill", "baseline", "baseline_is", "unit",
        "why_undefined",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figure_to_json_of_an_undefined_value_says_why(value: float) -> None:
    undefined = Figure("f1_buy", "F1", "classification", value, why_undefined="the model never calls it").to_json()
    assert undefined["value"] is None
    assert undefined["why_undefined"] == "the model never calls it"
    assert Figure("mae", "MAE", "regression", value).to_json()["why_undefined"] == "no row to measure it on"
    absent = ("low", "high", "p_value", "no_skill", "baseline", "baseline_is")
    assert [undefined[name] for name in absent] == [None] * 6


def test_figure_to_json_takes_numpy_numbers() -> None:
    figure = Figure("a", "A", "ranking", np.float64(0.5), np.float64("nan"), np.float32(1))  # type: ignore[arg-type]
    stored = json.loads(json.dumps(figure.to_json(), allow_nan=False))
    assert (stored["value"], stored["low"], stored["high"]) == (0.5, None, 1.0)


def test_finite_gives_plain_floats_or_none() -> None:
    assert type(finite(np.float64(0.25))) is float
    assert finite(0) == 0.0
    assert [finite(value) for value in (math.nan, math.inf, -math.inf)] == [None] * 3
