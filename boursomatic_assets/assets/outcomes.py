"""Outcomes of recommendations, judged when their horizon has passed."""

import dagster as dg

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.recommendations.outcomes import buy_record, summarise_outcomes, surprises
from boursomatic_assets.display.ui.metadata import data_version, table
from boursomatic_assets.display.ui.outcomes import buy_metadata, outcome_metadata, record_table
from boursomatic_assets.services.recommending.outcome_audit import audit_outcomes
from boursomatic_assets.services.recommending.outcomes import judge_open
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.model_table import active_version
from boursomatic_assets.storage.postgres.outcomes_table import read_outcomes
from boursomatic_assets.storage.postgres.stored_recommendations import count_open

_VERSIONED = ["recommendation_id", "exit_session", "realised_return", "hit", "first_touch"]


@dg.asset(
    group_name="outcomes",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    code_version=code_version(__name__, "outcomes"),
    deps=["recommendations", "price_bars"],
)
@retried
def outcomes(platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The outcome of each recommendation whose horizon has passed: return, hit or miss, stop or target.

    Each recommendation is judged once, and its outcome stays. The record compares how often calls came true with
    their confidence. `falls_short` says whether the active version's BUY calls came true less often than chance
    explains.
    """
    database = platform.database()
    added = judge_open(database)
    stored, active = read_outcomes(database), active_version(database)
    metadata = {
        **outcome_metadata(stored, summarise_outcomes(stored)),
        **(buy_metadata(buy_record(stored, active.version)) if active else {}),
        "rows_inserted": added,
        "still_open": count_open(database),
        "dagster/uri": database.shown_url,
        "dagster/table_name": "public.recommendation_outcomes",
    }
    return dg.MaterializeResult(metadata=metadata, data_version=data_version(stored.select(_VERSIONED)))


@dg.asset_check(asset=outcomes, blocking=True, additional_deps=["price_bars"])
def outcomes_follow_from_their_bars(platform: PlatformResource) -> dg.AssetCheckResult:
    """The newest outcomes of some symbols follow from their bars, judged a second time, bar by bar.

    Outcomes whose bars were rewritten since are only counted, and so are those of instruments without bars or in
    quarantine.
    """
    audited = audit_outcomes(platform.database())
    wrong = audited.wrong
    listed = {"wrong": table(wrong)} if wrong else {}
    counts = {
        "rows": audited.rows,
        "rewritten_since": audited.rewritten_since,
        "without_bars": audited.without_bars,
    }
    return dg.AssetCheckResult(passed=not wrong, metadata={**counts, "wrong_rows": len(wrong), **listed})


@dg.asset_check(asset=outcomes)
def calls_come_true_as_often_as_expected(platform: PlatformResource) -> dg.AssetCheckResult:
    """No profile and label comes true more or less often than its confidence says, beyond what chance explains."""
    summary = summarise_outcomes(read_outcomes(platform.database()))
    surprising = surprises(summary)
    return dg.AssetCheckResult(
        passed=surprising.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "judged": summary.drop_nulls("p_value").height,
            "surprises": dg.MetadataValue.md(record_table(surprising)) if surprising.height else "none",
        },
    )
