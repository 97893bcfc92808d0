"""Calls per risk profile from the model's predictions, with stop and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, LABEL_TYPE
from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.core.measures.calibration import calibrate
from boursomatic_assets.core.measures.classification import PROBABILITIES
from boursomatic_assets.core.models.contributions import feature_contributions
from boursomatic_assets.core.models.predictions import predict_rows

if TYPE_CHECKING:
    from boursomatic_assets.core.dataset.experiment import Profiles
    from boursomatic_assets.core.models.contributions import Contributions
    from boursomatic_assets.core.registry.serving import Serving

PROFILE_TYPE = pl.Enum(PROFILE_NAMES)
HELD_BACK_TYPE = pl.Enum(["probability", "threshold", "volatility"])
CALIBRATED = ("calibrated_buy", "calibrated_hold", "calibrated_sell")
RECOMMENDATION_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "profile": PROFILE_TYPE,
    "label": LABEL_TYPE,
    "confidence": pl.Float64(),
    "expected_return_pct": pl.Float64(),
    "horizon_days": pl.Int64(),
    "stop_loss": pl.Float64(),
    "take_profit": pl.Float64(),
    "held_back": HELD_BACK_TYPE,
}
# No price falls to zero: a stop or target below 1 % of the close is set to it.
LOWEST_PRICE = 0.01
_NOT_KNOWN_YET = {
    "label": pl.lit(None, LABEL_TYPE),
    "forward_return": pl.lit(None, pl.Float64),
    "label_end": pl.lit(None, pl.Date),
}


@dataclass(frozen=True)
class Recommended:
    """Recommendations and what they were made from, sorted.

    `rows` are of `RECOMMENDATION_SCHEMA`, one per instrument, session and profile. `predictions` has a row per
    instrument and session: close, raw and calibrated probabilities, `predicted_return` (fraction) and
    `Serving.columns`. `contributions` of `classifier` and `regressor` follow the rows of `predictions`.
    """

    rows: pl.DataFrame
    predictions: pl.DataFrame
    contributions: dict[str, Contributions]


def recommend(rows: pl.DataFrame, serving: Serving, profiles: Profiles) -> Recommended:
    """Call BUY, HOLD or SELL for each row and profile.

    `rows` are those of `servable_rows`, of any session. A recommendation depends on its own row alone, to the last
    bit.
    """
    ordered = rows.sort(PANEL_KEY)
    require_panel(ordered, ["close", *table_columns(serving.columns)])
    panel = with_derived_inputs(ordered, serving.columns)
    predictions = _predicted(panel, serving)
    called = apply_profiles(predictions, serving.tau, profiles)
    models = {"classifier": serving.classifier, "regressor": serving.regressor}
    return Recommended(
        rows=called.with_columns(horizon_days=pl.lit(serving.experiment.horizon, pl.Int64)).select(
            pl.col(name).cast(kind) for name, kind in RECOMMENDATION_SCHEMA.items()
        ),
        predictions=predictions,
        contributions={name: feature_contributions(model, panel) for name, model in models.items()},
    )


def _predicted(panel: pl.DataFrame, serving: Serving) -> pl.DataFrame:
    inputs = panel.select(*PANEL_KEY, "close", *serving.columns)
    if panel.is_empty():
        # LightGBM refuses a frame without rows.
        names = (*PROBABILITIES, *CALIBRATED, "predicted_return")
        found = pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
    else:
        predicted = predict_rows(inputs.with_columns(**_NOT_KNOWN_YET), serving.classifier, serving.regressor)
        raw = np.ascontiguousarray(predicted.select(PROBABILITIES).to_numpy())
        calibrated = pl.DataFrame(calibrate(raw, serving.temperature), schema=list(CALIBRATED))
        found = predicted.select(*PROBABILITIES, *calibrated, "predicted_return")
    return pl.concat([inputs.select(*PANEL_KEY, "close"), found, inputs.select(serving.columns)], how="horizontal")


def apply_profiles(predictions: pl.DataFrame, tau: float | None, profiles: Profiles) -> pl.DataFrame:
    """Apply the rule of each profile to each predicted row.

    Returns a row per predicted row and profile, sorted: what was given, the profile's columns, and `label`,
    `confidence`, `expected_return_pct`, `stop_loss`, `take_profit`, `held_back`.

    Notes ----- BUY needs the profile's calibrated p(BUY), not less than p(SELL), a raw p(BUY) of at least tau, and
    at most the profile's volatility. SELL needs the profile's calibrated p(SELL), more than p(BUY). `held_back` is
    what a HOLD lacked, the first that applies: neither probability reached its bound and was the larger
    (`probability`), p(BUY) did and is below tau (`threshold`), or the volatility is too high (`volatility`). More
    p(BUY) never turns a BUY into something else; what a profile buys or sells, a bolder one does too.
    """
    table = pl.DataFrame(
        [{"profile": name, **profile.model_dump()} for name, profile in profiles.items()],
        schema_overrides={"profile": PROFILE_TYPE},
    )
    buy, sell = pl.col("calibrated_buy"), pl.col("calibrated_sell")
    likely = (buy >= pl.col("buy_probability")) & (buy >= sell)
    above = pl.lit(value=True) if tau is None else pl.col("probability_buy") >= tau
    calm = pl.col("vol_20d") <= pl.col("max_volatility")
    falls = (sell >= pl.col("sell_probability")) & (sell > buy)
    buy_label, sell_label, hold_label = (pl.lit(name) for name in ("BUY", "SELL", "HOLD"))
    label = pl.when(likely & above & calm).then(buy_label).when(falls).then(sell_label).otherwise(hold_label)
    probability, threshold, volatility = (pl.lit(name) for name in ("probability", "threshold", "volatility"))
    lacks = pl.when(~likely).then(probability).when(~above).then(threshold).otherwise(volatility)
    crossed = predictions.join(table, how="cross").with_columns(label=label.cast(LABEL_TYPE))
    return crossed.with_columns(
        confidence=pl.coalesce(
            pl.when(pl.col("label") == name).then(column)
            for name, column in zip(CLASS_NAMES, CALIBRATED, strict=True)
        ),
        expected_return_pct=100 * pl.col("predicted_return"),
        stop_loss=_price_away(-1, "stop_atr"),
        take_profit=_price_away(1, "target_atr"),
        held_back=pl.when(pl.col("label") == "HOLD").then(lacks).cast(HELD_BACK_TYPE),
    ).sort(*PANEL_KEY, "profile")


def _price_away(side: int, multiple: str) -> pl.Expr:
    """The close plus `multiple` average ranges, in the call's direction for +1; null for HOLD."""
    close, distance = pl.col("close"), pl.col(multiple) * pl.col("atr_14")
    direction = pl.when(pl.col("label") == "BUY").then(side).when(pl.col("label") == "SELL").then(-side)
    return (close + direction * distance).clip(lower_bound=LOWEST_PRICE * close)
