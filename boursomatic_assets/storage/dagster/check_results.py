"""The last result that Dagster recorded of each check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dagster import AssetCheckSpec, DagsterInstance

RECENT_RESULTS = 50


@dataclass(frozen=True)
class CheckResult:
    """The newest completed result of a check; `passed` is None if there is none, `evaluated_at` is UTC."""

    asset: str
    name: str
    description: str
    blocking: bool
    passed: bool | None = None
    evaluated_at: datetime | None = None


def latest_results(instance: DagsterInstance, checks: Iterable[AssetCheckSpec]) -> list[CheckResult]:
    """The newest completed result of each check, blocking ones first, then by asset and name."""
    found = [_latest(instance, check) for check in checks]
    return sorted(found, key=lambda result: (not result.blocking, result.asset, result.name))


def _latest(instance: DagsterInstance, check: AssetCheckSpec) -> CheckResult:
    history = instance.event_log_storage.get_asset_check_execution_history(check.key, limit=RECENT_RESULTS)
    result = CheckResult(check.asset_key.to_user_string(), check.name, check.description or "", check.blocking)
    for record in history:
        if (event := record.event) and (evaluation := event.asset_check_evaluation):
            return replace(
                result, passed=evaluation.passed, evaluated_at=datetime.fromtimestamp(event.timestamp, UTC)
            )
    return result
