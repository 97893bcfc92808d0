"""From what the models say about a row to a call for each risk profile, its prices, and the evidence for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

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
from boursomatic_assets.core.recommendations.reasons import Facts, justify
from boursomatic_assets.core.registry.bundle import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.dataset.experiment import Profile, Profiles
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
SNAPSHOT_SCHEMA = 1
# What a writer adds to a snapshot, or may be found otherwise another time, without the content being another.
OUTSIDE_DIGEST = ("digest", "bars", "run")
# What differs between the snapshots of one row of features.
OF_THE_PROFILE = ("profile", "held_back", "justification")
_NOT_KNOWN_YET = {
    "label": pl.lit(None, LABEL_TYPE),
    "forward_return": pl.lit(None, pl.Float64),
    "label_end": pl.lit(None, pl.Date),
}


@dataclass(frozen=True)
class Recommended:
    """Recommendations with what they were made from.

    Attributes
    ----------
    rows : DataFrame
        Of `RECOMMENDATION_SCHEMA`: a row per instrument, session and profile, sorted by them.
    predictions : DataFrame
        A row per instrument and session, sorted: `symbol`, `session`, `close`, the raw `probability_buy`,
        `probability_hold`, `probability_sell`, the calibrated `calibrated_buy`, `calibrated_hold`,
        `calibrated_sell`, `predicted_return` (fraction), and the features of `Serving.columns`.
    contributions : dict of str to Contributions
        Of `classifier` and `regressor`, rows in the order of `predictions`.
    """

    rows: pl.DataFrame
    predictions: pl.DataFrame
    contributions: dict[str, Contributions]


def recommend(rows: pl.DataFrame, serving: Serving, profiles: Profiles) -> Recommended:
    """Call BUY, HOLD or SELL for each row and profile.

    Parameters
    ----------
    rows : DataFrame
        `symbol`, `session`, `close` and the features that `Serving.columns` are or are derived from, as
        `servable_rows` gives them; of today or of any session before.
    serving : Serving
    profiles : Profiles

    Notes
    -----
    A row's recommendation depends on that row alone, to the last bit: today's is made as a backtest's.
    """
    ordered = rows.sort(PANEL_KEY)
    require_panel(ordered, ["close", *table_columns(serving.columns)])
    panel = with_derived_inputs(ordered, serving.columns)
    predictions = _predicted(panel, serving)
    called = make_calls(predictions, serving.tau, profiles)
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
        found = _with_calibrated(
            predict_rows(inputs.with_columns(**_NOT_KNOWN_YET), serving.classifier, serving.regressor), serving
        )
    return pl.concat([inputs.select(*PANEL_KEY, "close"), found, inputs.select(serving.columns)], how="horizontal")


def _with_calibrated(predicted: pl.DataFrame, serving: Serving) -> pl.DataFrame:
    raw = np.ascontiguousarray(predicted.select(PROBABILITIES).to_numpy())
    calibrated = pl.DataFrame(calibrate(raw, serving.temperature), schema=list(CALIBRATED))
    return predicted.select(*PROBABILITIES, *calibrated, "predicted_return")


def make_calls(predictions: pl.DataFrame, tau: float | None, profiles: Profiles) -> pl.DataFrame:
    """Apply the rule of each profile to each predicted row.

    Parameters
    ----------
    predictions : DataFrame
        `symbol`, `session`, `close`, `probability_buy`, the calibrated probabilities, `predicted_return`, `vol_20d`
        and `atr_14`.
    tau : float or None
        As of `Serving`.
    profiles : Profiles

    Returns
    -------
    DataFrame
        A row per predicted row and profile, sorted: what was given, the profile's own columns, and `label`,
        `confidence`, `expected_return_pct`, `stop_loss`, `take_profit`, `held_back`.

    Notes
    -----
    BUY needs the profile's calibrated p(BUY), not less than p(SELL), a raw p(BUY) of at least tau, and no more than
    the profile's volatility. SELL needs the profile's calibrated p(SELL), more than p(BUY); to leave what is wild
    is no risk. `held_back` says what a HOLD lacked for a call, the first that applies: neither probability reached
    its bound and was the larger of the two (`probability`), p(BUY) did and is below tau (`threshold`), or only the
    volatility is too high (`volatility`). More p(BUY) never turns a BUY into something else; what a profile buys
    or sells, a bolder one does too.
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
    label = (
        pl.when(likely & above & calm)
        .then(pl.lit("BUY"))
        .when(falls)
        .then(pl.lit("SELL"))
        .otherwise(pl.lit("HOLD"))
    )
    lacks = (
        pl.when(~likely).then(pl.lit("probability")).when(~above).then(pl.lit("threshold"))
        .otherwise(pl.lit("volatility"))
    )  # fmt: skip
    crossed = predictions.join(table, how="cross").with_columns(label=label.cast(LABEL_TYPE))
    return crossed.with_columns(
        confidence=_of_the_label(CALIBRATED),
        expected_return_pct=100 * pl.col("predicted_return"),
        stop_loss=_price_away(-1, "stop_atr"),
        take_profit=_price_away(1, "target_atr"),
        held_back=pl.when(pl.col("label") == "HOLD").then(lacks).cast(HELD_BACK_TYPE),
    ).sort(*PANEL_KEY, "profile")


def _of_the_label(columns: Sequence[str]) -> pl.Expr:
    return pl.coalesce(
        pl.when(pl.col("label") == name).then(column) for name, column in zip(CLASS_NAMES, columns, strict=True)
    )


def _price_away(side: int, multiple: str) -> pl.Expr:
    """The close and so many average ranges beyond it, in the call's direction for +1; null for HOLD."""
    close, distance = pl.col("close"), pl.col(multiple) * pl.col("atr_14")
    direction = pl.when(pl.col("label") == "BUY").then(side).when(pl.col("label") == "SELL").then(-side)
    return (close + direction * distance).clip(lower_bound=LOWEST_PRICE * close)


def snapshots(
    recommended: Recommended, serving: Serving, profiles: Profiles, provenance: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Write down what each recommendation was made from: enough to make it again.

    Parameters
    ----------
    recommended : Recommended
    serving : Serving
    profiles : Profiles
    provenance : mapping of str to mapping
        Symbol to where its bars are recorded, kept as it is under `bars`.

    Returns
    -------
    list of dict
        One per row of `Recommended.rows`, in its order; strict JSON.
    """
    chosen = dict(profiles.items())
    found = []
    own_rows = recommended.rows.iter_rows(named=True)
    for evidence in _evidence(recommended, serving):
        shared_sha256 = sha256(_compact(evidence))
        for row in islice(own_rows, len(chosen)):
            name, held_back, profile = row["profile"], row["held_back"], chosen[row["profile"]]
            snapshot = {
                **evidence,
                "profile": {"name": name, **profile.model_dump()},
                "held_back": held_back,
                "justification": justify(facts_of(evidence, row["label"], held_back, name, profile)),
            }
            snapshot["digest"] = _digest_with(shared_sha256, snapshot)
            found.append({**snapshot, "bars": provenance[row["symbol"]]})
    return found


def facts_of(evidence: Mapping[str, Any], label: str, held_back: str | None, name: str, profile: Profile) -> Facts:
    """Gather what a justification may speak of, from a snapshot or from the part that all profiles share."""
    return Facts(
        label=label,
        held_back=held_back,
        probability=evidence["calibrated"][label],
        calibrated=evidence["calibrated"],
        expected_return=evidence["predicted_return"],
        horizon=evidence["horizon"],
        features=evidence["features"],
        close=evidence["close"],
        contributions=evidence["contributions"][label],
        profile=name,
        max_volatility=profile.max_volatility,
        tau=evidence["tau"],
        **evidence["labelling"],
    )


def _evidence(recommended: Recommended, serving: Serving) -> list[dict[str, Any]]:
    """What the snapshots of an instrument have in common, for each row of `predictions`."""
    experiment = serving.experiment
    fixed = {
        "schema": SNAPSHOT_SCHEMA,
        "temperature": serving.temperature,
        "tau": serving.tau,
        "horizon": experiment.horizon,
        "labelling": {name: getattr(experiment, name) for name in ("buy_threshold", "sell_threshold")},
        "model": {"version": serving.version, **serving.digests},
    }
    contributions, scores = _explained(recommended.contributions)
    return [
        {
            **fixed,
            "session": row["session"].isoformat(),
            "close": row["close"],
            "features": {name: row[name] for name in serving.columns},
            "probabilities": {name: row[raw] for name, raw in zip(CLASS_NAMES, PROBABILITIES, strict=True)},
            "calibrated": {name: row[known] for name, known in zip(CLASS_NAMES, CALIBRATED, strict=True)},
            "predicted_return": row["predicted_return"],
            "contributions": contributions[place],
            "expected_scores": scores[place],
        }
        for place, row in enumerate(recommended.predictions.iter_rows(named=True))
    ]


def _explained(
    contributions: Mapping[str, Contributions],
) -> tuple[list[dict[str, dict[str, float]]], list[dict[str, float]]]:
    """Contributions by output and feature, and expected scores by output, of both models for each row."""
    both = list(contributions.values())
    names = [name for found in both for name in found.output_names]
    features = both[0].feature_names
    values = np.concatenate([found.values for found in both], axis=1)
    expected = np.concatenate([found.expected for found in both], axis=1)
    by_output = [
        {name: dict(zip(features, output, strict=True)) for name, output in zip(names, row, strict=True)}
        for row in values.tolist()
    ]
    return by_output, [dict(zip(names, row, strict=True)) for row in expected.tolist()]


def content_digest(snapshot: Mapping[str, Any]) -> str:
    """Digest a snapshot without `OUTSIDE_DIGEST`: SHA-256 as 64 hexadecimal digits; equal content, equal digest.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    shared = {name: value for name, value in snapshot.items() if name not in (*OUTSIDE_DIGEST, *OF_THE_PROFILE)}
    return _digest_with(sha256(_compact(shared)), snapshot)


def _digest_with(shared_sha256: str, snapshot: Mapping[str, Any]) -> str:
    # What the profiles of an instrument share is most of the text, and is encoded once.
    return sha256(_compact({"shared": shared_sha256, **{name: snapshot.get(name) for name in OF_THE_PROFILE}}))


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
