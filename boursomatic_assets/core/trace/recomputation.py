"""The model end of a trace: call, prediction, bundle, run and code, recorded and found.

A step says no more than it compared. What was computed is computed again, by the code that serves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import table_columns
from boursomatic_assets.core.recommendations.calls import apply_profiles, recommend
from boursomatic_assets.core.recommendations.snapshots import OUTSIDE_DIGEST, content_digest, snapshots
from boursomatic_assets.core.registry.bundle import BUNDLE_FILES, MANIFEST, Bundle, sha256, strict_json
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.core.registry.serving import PRICED_BY
from boursomatic_assets.core.trace.tree import (
    CHANGED,
    DIFFERS,
    GONE,
    MATCHES,
    NOT_RECORDED,
    NOTHING,
    TraceStep,
    digest_step,
    group_step,
    shown,
    value_step,
    values_step,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.recommendations.evidence import Evidence
    from boursomatic_assets.core.registry.serving import Serving

# Columns of a recommendation that follow from probabilities, prices and profile.
CALLED = ("label", "confidence", "expected_return_pct", "stop_loss", "take_profit")


def snapshot_step(evidence: Evidence) -> TraceStep:
    """Whether the stored snapshot still has the digest taken when it was written."""
    return value_step(
        "snapshot", evidence.digest, content_digest(evidence.raw), "the evidence kept with the row, by its digest"
    )


def call_step(row: Mapping[str, Any], evidence: Evidence) -> TraceStep:
    """Apply the rule to the recorded probabilities, prices and profile, and compare with the row."""
    predictions = pl.DataFrame(
        {
            "symbol": row["symbol"],
            "session": evidence.session,
            "close": evidence.close,
            **{f"probability_{name.lower()}": value for name, value in evidence.probabilities},
            **{f"calibrated_{name.lower()}": value for name, value in evidence.calibrated},
            "predicted_return": evidence.predicted_return,
            **{name: evidence.features[name] for name in PRICED_BY},
        }
    )
    made = apply_profiles(predictions, evidence.tau, evidence.profiles).row(0, named=True)
    expected = {
        **{name: made[name] for name in CALLED},
        "session": evidence.session,
        "profile": evidence.profile.name,
        "horizon_days": evidence.horizon,
    }
    stored = {name: row[name] for name in expected}
    step = values_step("call", stored, expected, "The rule, applied to the recorded probabilities and profile")
    texts = list(evidence.justification.values())
    said = row["justification"] if row["justification"] in texts else next(iter(texts), None)
    justified = value_step("justification", row["justification"], said)
    parts = [*step.children, *([] if justified.is_sound else [justified])]
    return group_step("call", parts, step.detail, recorded=_call(stored), found=_call(expected))


def _call(values: Mapping[str, Any]) -> str:
    return f"{values['label']} {shown(values['confidence'])}"


def prediction_step(symbol: str, evidence: Evidence, serving: Serving) -> TraceStep:
    """Predict the recorded features again by the verified bundle, and write the evidence anew."""
    missing = [name for name in serving.columns if name not in evidence.features]
    if missing:
        return TraceStep("prediction", DIFFERS, detail=f"the snapshot has no value of {', '.join(missing)}")
    values = {name: evidence.features[name] for name in table_columns(serving.columns)}
    keys = {"symbol": symbol, "session": evidence.session, "close": evidence.close}
    rows = pl.DataFrame({**keys, **values}, schema_overrides=dict.fromkeys(values, pl.Float64))
    made = recommend(rows, serving, evidence.profiles)
    written = snapshots(made, serving, evidence.profiles, {symbol: {}})
    names = made.rows["profile"].cast(pl.String).to_list()
    again = json.loads(strict_json(written[names.index(evidence.profile.name)]))
    step = values_step("prediction", _leaves(evidence.raw), _leaves(again))
    detail = f"{step.detail}: probabilities, contributions, forecast and reasons, made again by the bundle"
    recorded, found = (_probabilities(entry) for entry in (evidence.raw, again))
    return TraceStep("prediction", step.status, recorded, found, detail, step.children)


def _probabilities(snapshot: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in snapshot["probabilities"].items())


def _leaves(snapshot: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every value of a snapshot that its digest covers, by its path."""
    found: dict[str, Any] = {}
    for name, value in snapshot.items():
        if above or name not in OUTSIDE_DIGEST:
            path = f"{above}{name}"
            found |= _leaves(value, f"{path}: ") if isinstance(value, dict) else {path: value}
    return found


@dataclass(frozen=True)
class FoundBundle:
    """A stored bundle after comparison; `manifest` is None where it is gone or altered.

    `bundle` is None where a text that predicts, or the manifest, is not what was recorded.
    """

    step: TraceStep
    manifest: Manifest | None = None
    bundle: Bundle | None = None


def bundle_step(row: Mapping[str, Any], evidence: Evidence, files: Mapping[str, bytes] | None) -> FoundBundle:
    """Compare every file of a bundle with its digest, and the manifest with the database and the snapshot.

    `row` has `version`, `model_path` and `manifest_sha256`; `files` is None where there is no such folder.
    """
    where = f"{row['version']} in {row['model_path']}"
    if files is None:
        return FoundBundle(TraceStep("model bundle", GONE, where, NOTHING, "restore it from a backup"))
    found = None if MANIFEST not in files else sha256(files[MANIFEST])
    digests = {"database": row["manifest_sha256"], "snapshot": evidence.model.get("manifest_sha256")}
    # Both must agree; where they do, one step says it.
    told = list(digests)[:1] if len(set(digests.values())) == 1 else list(digests)
    steps = [digest_step(MANIFEST, digests[who], found, f"as the {who} recorded it") for who in told]
    if not all(step.is_sound for step in steps):
        return FoundBundle(group_step("model bundle", steps, where))
    manifest = Manifest.model_validate_json(files[MANIFEST])
    for name in BUNDLE_FILES:
        digest = sha256(files[name]) if name in files else None
        steps = [*steps, digest_step(name, manifest.files[name].sha256, digest, "as the manifest says")]
    sound = {step.name for step in steps if step.is_sound}
    # The pickles and the figures play no part in a prediction.
    usable = {"classifier.txt", "regressor.txt"} <= sound
    return FoundBundle(
        group_step("model bundle", steps, where), manifest, Bundle(manifest, dict(files)) if usable else None
    )


def training_data_step(manifest: Manifest, found: str | None) -> TraceStep:
    """Compare the digest of the training panel's file; `found` is None where it is gone."""
    recorded = (manifest.snapshot or {}).get("sha256")
    return digest_step("training data", recorded, found, "the panel the models learned from, as a file")


def run_step(name: str, run_id: str | None, found: Mapping[str, Any] | None, said: Mapping[str, Any]) -> TraceStep:
    """Compare what a Dagster run recorded with what it must have recorded.

    `found` has the run's `status` and values under the names of `said`; None where Dagster does not know the run.
    """
    if run_id is None:
        return TraceStep(name, NOT_RECORDED, NOTHING, NOTHING, "it was not made in a Dagster run")
    if found is None:
        return TraceStep(name, GONE, run_id, NOTHING, "Dagster does not know this run, or no longer")
    parts = [value_step(key, value, found.get(key)) for key, value in said.items()]
    broken = [part for part in parts if not part.is_sound]
    # A run may fail after it has written what is traced.
    return group_step(name, broken, f"Dagster run, {shown(found.get('status'))}", recorded=run_id, found=run_id)


def code_step(then: Mapping[str, Any], now: Mapping[str, Any]) -> TraceStep:
    """Whether the code and packages in use are those of the recommendation."""
    if not then:
        return TraceStep("code revision", NOT_RECORDED)
    differing = [key for key in dict.fromkeys([*then, *now]) if then.get(key) != now.get(key)]
    named = differing or ["source_sha256"]
    recorded, found = (", ".join(f"{key} {shown(of.get(key))}" for key in named) for of in (then, now))
    detail = "what is computed anew here is computed by the code and packages of now" if differing else ""
    return TraceStep("code revision", CHANGED if differing else MATCHES, recorded, found, detail)
