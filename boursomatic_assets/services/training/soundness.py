"""Whether the parts of a version belong together: required checks and lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.portfolio.book import closes_of_books
from boursomatic_assets.storage.dagster.instance import (
    CLOSES_VERSION,
    outdated_inputs,
    recorded_metadata,
    unmet_checks,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

_SETS = ("train_set", "validation_set", "test_set")
_KEPT = ("content_sha256", "dagster/row_count", "first_session", "last_session")
# Assets behind a version, with their inputs; an input must not have been replaced since.
_MADE_FROM = {
    **{name: ["labels"] for name in _SETS},
    "classifier": ["train_set"],
    "regressor": ["train_set"],
    "feature_importance": ["classifier", "regressor"],
    "predictions": ["classifier", "regressor", "validation_set", "test_set", "labels"],
    "threshold": ["predictions"],
    "metrics": ["predictions", "threshold", "classifier", "train_set"],
}


def require_sound(
    instance: dg.DagsterInstance, run_id: str, checks: Mapping[dg.AssetCheckKey, Sequence[dg.AssetKey]]
) -> dict[str, Any]:
    """Content, rows and span of each set, as recorded; refuses parts that do not belong together.

    `checks` are the required ones, as in `unmet_checks`. Raises Failure, which Dagster does not retry, if an input
    was replaced since, or a check does not pass.
    """
    if outdated := outdated_inputs(instance, run_id, _MADE_FROM):
        changed = {name: ", ".join(inputs) for name, inputs in outdated.items()}
        what = "from parts that do not belong together; inputs that changed"
        raise _refusal(what, changed, "Build them again: boursomatic materialize --select features+")
    if unmet := unmet_checks(instance, run_id, checks):
        what = "while these checks do not hold"
        reasons = {str(key): unmet_check.reason for key, unmet_check in unmet.items()}
        raise _refusal(what, reasons, "See them in the UI, fix the cause, then: boursomatic materialize")
    sets = {name: recorded_metadata(instance, run_id, name) for name in _SETS}
    return {name: {key: recorded[key] for key in _KEPT} for name, recorded in sets.items()}


def sound_closes(
    instance: dg.DagsterInstance,
    run_id: str,
    price_bars: pl.DataFrame,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
) -> pl.DataFrame:
    """Closes of the books; raises Failure if they were rewritten since the metrics were computed."""
    closes = closes_of_books(price_bars, labels, predictions["session"].min())  # type: ignore[arg-type]
    expected = recorded_metadata(instance, run_id, "metrics").get(CLOSES_VERSION)
    found = fingerprint(closes)
    if found != expected:
        changed = {"price_bars": f"expected closes {expected or 'that none recorded'}, found {found}"}
        what = "with figures of other prices than those stored"
        raise _refusal(what, changed, "Build them again: boursomatic materialize --select features+")
    return closes


def _refusal(why: str, found: Mapping[str, str], remedy: str) -> dg.Failure:
    listed = "".join(f"\n  {name}: {text}" for name, text in found.items())
    message = f"no model version is recorded {why}:{listed}\n{remedy}"
    return dg.Failure(description=message, allow_retries=False)
