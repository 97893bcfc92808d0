"""Audit of stored recommendations: an independent second computation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.measures.calibration import calibrate
from boursomatic_assets.core.models.contributions import spread_rows
from boursomatic_assets.services.recommending.recommend import open_serving, require_active
from boursomatic_assets.storage.postgres.recommendation_faults import active_symbols
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.registry.serving import Serving
    from boursomatic_assets.storage.postgres.database import Database

INSTRUMENTS_LOOKED_AT = 24
# Smallest stop or target, as a share of the close: a price stays above zero.
LEAST_PRICE = 0.01


def rows_made_again(database: Database) -> tuple[int, list[str]]:
    """Compute active recommendations of some instruments again from their own features, and compare every bit.

    Returns the number of compared rows, and one sentence for each value that differs.
    """
    serving = open_serving(require_active(database))
    symbols = spread_rows(active_symbols(database).sort().to_frame(), INSTRUMENTS_LOOKED_AT)["symbol"].to_list()
    stored = read_recommendations(database, symbols=symbols, with_snapshot=True).filter("is_of_active_model")
    faults: list[str] = []
    for row in stored.iter_rows(named=True):
        evidence = json.loads(row["features_snapshot"])
        found = {**row, **{f"raw p({name})": evidence["probabilities"][name] for name in CLASS_NAMES}}
        faults += [
            f"{row['symbol']}, {row['profile']}: {name} is {found[name]}, and {value} follows from the model"
            for name, value in _made_again(evidence, serving).items()
            if found[name] != value
        ]
    return stored.height, faults


def unmentioned_instruments(database: Database, excluded: Mapping[str, str]) -> tuple[int, list[str]]:
    """Number of active instruments, and those neither served in each profile nor listed as excluded."""
    symbols = active_symbols(database)
    stored = read_recommendations(database)
    served = stored.filter(pl.col("is_of_active_model") & pl.col("profile").is_in(PROFILE_NAMES))
    profiles = served.group_by("symbol").agg(pl.col("profile").n_unique())
    mentioned = {*profiles.filter(pl.col("profile") == len(PROFILE_NAMES))["symbol"], *excluded}
    return len(symbols), [symbol for symbol in symbols.to_list() if symbol not in mentioned]


def unnested_calls(database: Database) -> pl.DataFrame:
    """Calls of a cautious profile that a bolder one does not make of the same row.

    Columns: `symbol`, `profile`, `label`, `bolder` and `bolder_label`.
    """
    names = pl.DataFrame({"profile": PROFILE_NAMES[:-1], "bolder": PROFILE_NAMES[1:]})
    key = ["symbol", "session", "version"]
    plain = read_recommendations(database).select(*key, pl.col("profile", "label").cast(pl.String))
    pairs = plain.join(names, on="profile").join(
        plain.select(*key, bolder="profile", bolder_label="label"), on=[*key, "bolder"]
    )
    broken = pairs.filter((pl.col("label") != "HOLD") & (pl.col("label") != pl.col("bolder_label")))
    return broken.select("symbol", "profile", "label", "bolder", "bolder_label").sort("symbol", "profile")


def _made_again(evidence: Mapping[str, Any], serving: Serving) -> dict[str, Any]:
    names = serving.classifier.feature_names
    stored = {"close": evidence["close"], **{name: evidence["features"][name] for name in table_columns(names)}}
    row = with_derived_inputs(pl.DataFrame([stored], schema=dict.fromkeys(stored, pl.Float64)), names)
    raw = serving.classifier.predict(row)
    calibrated = dict(zip(CLASS_NAMES, calibrate(raw, serving.temperature)[0].tolist(), strict=True))
    probabilities = dict(zip(CLASS_NAMES, raw[0].tolist(), strict=True))
    label = _label(probabilities["BUY"], calibrated, evidence, serving.tau)
    stop, target = _prices(label, evidence)
    return {
        "label": label,
        "confidence": calibrated[label],
        "expected_return_pct": 100 * float(serving.regressor.predict(row)[0]),
        "horizon_days": serving.experiment.horizon,
        "stop_loss": stop,
        "take_profit": target,
        **{f"raw p({name})": value for name, value in probabilities.items()},
    }


def _label(raw_buy: float, calibrated: Mapping[str, float], evidence: Mapping[str, Any], tau: float | None) -> str:
    profile = evidence["profile"]
    buy, sell = calibrated["BUY"], calibrated["SELL"]
    wanted = buy >= profile["buy_probability"] and buy >= sell and (tau is None or raw_buy >= tau)
    if wanted and evidence["features"]["vol_20d"] <= profile["max_volatility"]:
        return "BUY"
    return "SELL" if sell >= profile["sell_probability"] and sell > buy else "HOLD"


def _prices(label: str, evidence: Mapping[str, Any]) -> tuple[float | None, float | None]:
    close, profile, atr = evidence["close"], evidence["profile"], evidence["features"]["atr_14"]
    if label == "HOLD":
        return None, None
    up = 1 if label == "BUY" else -1
    stop = close - up * profile["stop_atr"] * atr
    target = close + up * profile["target_atr"] * atr
    return max(stop, LEAST_PRICE * close), max(target, LEAST_PRICE * close)
