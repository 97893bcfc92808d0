"""A small model as it is served, and what it is asked about: trained once for the tests that need one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.models.training import FittedModel, feature_importance, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import Bundle, build_bundle
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.core.registry.serving import CANDIDATE_SCHEMA, Serving
from boursomatic_assets_tests.support.strategies import MONDAY, random_walk_bars

if TYPE_CHECKING:
    from collections.abc import Mapping

FEW_TREES = BoosterParameters(n_estimators=10)
EXPERIMENT = Experiment(classifier=FEW_TREES, regressor=FEW_TREES, horizon=5)
TEMPERATURE = 1.25
SOUND = {
    "ret_1d": 0.01, "ret_5d": 0.02, "ret_20d": -0.06, "rsi_14": 48.0, "momentum_5d": 0.02,
    "vol_20d": 0.015, "atr_14": 2.0, "volume_zscore": 0.4,
}  # fmt: skip


@cache
def bars() -> pl.DataFrame:
    """Four instruments of 260 sessions."""
    return random_walk_bars(symbols=4, sessions=260, seed=0)


@cache
def labels() -> pl.DataFrame:
    """Labels of `bars`, with their closes; the newest five sessions have no label."""
    return label_panel(compute_features(bars()), bars(), EXPERIMENT)


@cache
def split() -> Split:
    """Sets of `labels`."""
    return split_panel(labels(), EXPERIMENT)


@cache
def models() -> tuple[FittedModel, FittedModel]:
    """Classifier and regressor of the training set."""
    return fit_classifier(split().train, EXPERIMENT, 1), fit_regressor(split().train, EXPERIMENT, 1)


def bundle(changes: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None) -> Bundle:
    """The bundle of `models`, with other values in its manifest or other files."""
    provenance = {
        "version": "20260102_030405_abcdef",
        "experiment": EXPERIMENT.model_dump(mode="json"),
        "threshold": {"tau": None, "reason": "none is better", "temperature": TEMPERATURE},
        "universe": ["W000", "W001", "W002", "W003"],
    }
    made = build_bundle(*models(), {"accuracy": 0.4}, feature_importance(*models()), provenance)
    verified = Bundle.verified(made, None)
    manifest = Manifest.model_validate({**verified.manifest.model_dump(), **(changes or {})})
    return Bundle(manifest, {**verified.files, **(files or {})})


@cache
def serving() -> Serving:
    """The bundle of `models`, ready."""
    return Serving.of(bundle())


def candidates(*changes: Mapping[str, Any]) -> pl.DataFrame:
    """A sound candidate of New York for each mapping, with the values that it changes; S00, S01, ... in order."""
    rows = [
        {
            "symbol": f"S{place:02d}",
            "exchange": "XNYS",
            "newest_bar": change.get("session") or MONDAY,
            "session": MONDAY,
            "close": 100.0,
            **SOUND,
            "quarantined": False,
            "member": True,
            **change,
        }
        for place, change in enumerate(changes)
    ]
    return pl.DataFrame(rows, schema=CANDIDATE_SCHEMA)


def all_rows() -> pl.DataFrame:
    """Every row of `bars`, as `servable_rows` gives those of today."""
    features = compute_features(bars()).with_columns(bars()["close"], exchange=pl.lit("XNYS"))
    return features.select("symbol", "exchange", "session", "close", *FEATURE_NAMES)


def newest_rows() -> pl.DataFrame:
    """The newest row of each instrument of `bars`, as `servable_rows` gives them."""
    rows = all_rows()
    return rows.group_by("symbol").last().sort("symbol").select(rows.columns)
