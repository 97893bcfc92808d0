"""A recommendation as it is stored, with the evidence kept with it: what a trace begins with."""

from __future__ import annotations

import json
from typing import Any

from boursomatic_assets.core.dataset.experiment import Profiles
from boursomatic_assets.core.recommendations.calls import recommend
from boursomatic_assets.core.recommendations.evidence import Evidence
from boursomatic_assets.core.recommendations.snapshots import content_digest, snapshots
from boursomatic_assets.core.registry.bundle import MANIFEST, sha256, strict_json
from boursomatic_assets_tests.support.served import bundle, newest_rows, serving

SYMBOL, PROFILE = "W001", "moderate"
CONTENT = "79665416624049481"
BARS = {"inputs": f"{CONTENT} XNYS  1 4.11", "exchange": "XNYS", "adjustments": [["2018-03-01", 0.5]]}


def stored() -> dict[str, Any]:
    """Columns of the row, as the database gives them, its snapshot among them."""
    made = recommend(newest_rows(), serving(), Profiles())
    written = snapshots(made, serving(), Profiles(), dict.fromkeys(newest_rows()["symbol"], BARS))
    for row, snapshot in zip(made.rows.iter_rows(named=True), written, strict=True):
        if (row["symbol"], row["profile"]) == (SYMBOL, PROFILE):
            text = json.dumps({**snapshot, "run": {"run_id": "r1", "code": {"git": "abc"}}})
            return {
                **row,
                "justification": snapshot["justification"]["fr"],
                "snapshot": json.loads(text),
                "version": "20260102_030405_abcdef",
                "model_path": "models/20260102_030405_abcdef",
                "manifest_sha256": sha256(bundle().files[MANIFEST]),
            }
    raise AssertionError(SYMBOL)


def evidence_of(row: dict[str, Any], **changes: Any) -> Evidence:  # noqa: ANN401
    """The row's evidence, with other values; its digest is that of before."""
    evidence = Evidence.of({**row["snapshot"], **changes})
    assert isinstance(evidence, Evidence), evidence
    return evidence


def rewritten(snapshot: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """A snapshot with other values, and the digest of them: forged with care."""
    changed = {**snapshot, **changes}
    return {**changed, "digest": content_digest(json.loads(strict_json(changed)))}
