"""Stored recommendations judged anew, by other means than those that made them."""

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
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.registry.serving import Serving
    from boursomatic_assets.storage.postgres.database import Database

INSTRUMENTS_LOOKED_AT = 24
# A price never falls to nothing: the least that a stop or a target can be, as a share of the close.
LEAST_PRICE = 0.01


def rows_made_again(database: Database) -> tuple[int, list[str]]:
    """Compute active recommendations of some instruments again with the active version, and compare them.

    Returns
    -------
    tuple of (int, list of str)
        Number of compared rows, and one sentence for each value that differs.
    """
    serving = open_serving(require_active(database))
    stored = read_evidence(database, spread_symbols(active_symbols(database).to_list()))
    return stored.height, rows_that_do_not_follow(stored, serving)


def unmentioned_instruments(database: Database, excluded: Mapping[str, str]) -> tuple[int, list[str]]:
    """Number of active instruments, and those that are neither recommended on nor listed as left out."""
    symbols = active_symbols(database)
    return len(symbols), unmentioned_symbols(symbols, read_recommendations(database), excluded)


def unnested_calls(database: Database) -> pl.DataFrame:
    """Active calls of a cautious profile that a bolder one does not make."""
    return calls_that_do_not_nest(read_recommendations(database))


def spread_symbols(symbols: Sequence[str], count: int = INSTRUMENTS_LOOKED_AT) -> list[str]:
    """Choose at most so many symbols at equal distances in the alphabet."""
    return spread_rows(pl.DataFrame({"symbol": sorted(symbols)}), count)["symbol"].to_list()


def read_evidence(database: Database, symbols: Sequence[str]) -> pl.DataFrame:
    """Active rows of the active model of some instruments, with their evidence as JSON text."""
    return read_recommendations(database, symbols=symbols, with_snapshot=True).filter("is_of_active_model")


def rows_that_do_not_follow(stored: pl.DataFrame, serving: Serving) -> list[str]:
    """Make each stored row again from its own features, and say what differs in a single bit.

    Parameters
    ----------
    stored : DataFrame
        As `read_evidence` gives it.
    serving : Serving
        The bundle of the version that made the rows.

    Returns
    -------
    list of str
        A sentence for each value that differs; empty where everything follows.
    """
    faults: list[str] = []
    for row in stored.iter_rows(named=True):
        evidence = json.loads(row["features_snapshot"])
        expected = _made_again(evidence, serving)
        found = {
            **{name: row[name] for name in ("label", "confidence", "expected_return_pct", "horizon_days")},
            **{name: row[name] for name in ("stop_loss", "take_profit")},
            **{f"raw p({name})": evidence["probabilities"][name] for name in CLASS_NAMES},
        }
        faults += [
            f"{row['symbol']}, {row['profile']}: {name} is {found[name]}, and {value} follows from the model"
            for name, value in expected.items()
            if found[name] != value
        ]
    return faults


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


def calls_that_do_not_nest(stored: pl.DataFrame) -> pl.DataFrame:
    """Calls of a cautious profile that a bolder one does not make of the same row.

    Parameters
    ----------
    stored : DataFrame
        `symbol`, `session`, `version`, `profile` and `label` of active rows.

    Returns
    -------
    DataFrame
        `symbol`, `profile`, `label`, `bolder` and `bolder_label`.
    """
    names = pl.DataFrame({"profile": PROFILE_NAMES[:-1], "bolder": PROFILE_NAMES[1:]})
    key = ["symbol", "session", "version"]
    plain = stored.select(*key, pl.col("profile", "label").cast(pl.String))
    pairs = plain.join(names, on="profile").join(
        plain.select(*key, bolder="profile", bolder_label="label"), on=[*key, "bolder"]
    )
    broken = pairs.filter((pl.col("label") != "HOLD") & (pl.col("label") != pl.col("bolder_label")))
    return broken.select("symbol", "profile", "label", "bolder", "bolder_label").sort("symbol", "profile")


def unmentioned_symbols(symbols: pl.Series, stored: pl.DataFrame, excluded: Mapping[str, str]) -> list[str]:
    """Active instruments that neither have a row of each profile by the active model nor are listed as left out."""
    served = stored.filter(pl.col("is_of_active_model") & pl.col("profile").is_in(PROFILE_NAMES))
    whole = (
        served.group_by("symbol").agg(pl.col("profile").n_unique()).filter(pl.col("profile") == len(PROFILE_NAMES))
    )
    mentioned = {*whole["symbol"], *excluded}
    return [symbol for symbol in symbols.to_list() if symbol not in mentioned]
