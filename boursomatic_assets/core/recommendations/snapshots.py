"""The evidence of each recommendation, sufficient to reproduce it, and its digest."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.measures.classification import PROBABILITIES
from boursomatic_assets.core.recommendations.calls import CALIBRATED, Recommended
from boursomatic_assets.core.recommendations.reasons import Facts, justify
from boursomatic_assets.core.registry.bundle import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.dataset.experiment import Profile, Profiles
    from boursomatic_assets.core.models.contributions import Contributions
    from boursomatic_assets.core.registry.serving import Serving

SNAPSHOT_SCHEMA = 1
# Not part of the content: added by the writer, or different at another time.
OUTSIDE_DIGEST = ("digest", "bars", "run")
# Entries that differ between the profiles of one row.
OF_THE_PROFILE = ("profile", "held_back", "justification")


def snapshots(
    recommended: Recommended, serving: Serving, profiles: Profiles, provenance: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Evidence of each recommendation, as strict JSON in the order of `Recommended.rows`.

    `provenance` says by symbol where its bars are recorded; it is kept as it is under `bars`.
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
    """Facts of a justification, from a snapshot or from the part that all profiles share."""
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
    """What the snapshots of an instrument share, for each row of `predictions`."""
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
    """Per row: contributions of the features to each model output, and the expected score of each output."""
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
    """SHA-256 of a snapshot without `OUTSIDE_DIGEST`; a number that is not finite raises ValueError."""
    shared = {name: value for name, value in snapshot.items() if name not in (*OUTSIDE_DIGEST, *OF_THE_PROFILE)}
    return _digest_with(sha256(_compact(shared)), snapshot)


def _digest_with(shared_sha256: str, snapshot: Mapping[str, Any]) -> str:
    # The part that profiles share is most of the text, and is encoded once.
    return sha256(_compact({"shared": shared_sha256, **{name: snapshot.get(name) for name in OF_THE_PROFILE}}))


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
