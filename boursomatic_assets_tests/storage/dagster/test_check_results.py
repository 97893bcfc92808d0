"""The last result of each check, as Dagster recorded it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from boursomatic_assets.storage.dagster.check_results import CheckResult, latest_results

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOMES = ["passed"]


@dg.asset
def bars() -> int:
    return 1


@dg.asset_check(asset=bars)
def are_plausible() -> dg.AssetCheckResult:
    """Warns where a bar is odd."""
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=bars, blocking=True)
def keep_the_contract() -> dg.AssetCheckResult:
    """Every bar keeps the contract."""
    return dg.AssetCheckResult(passed=OUTCOMES[-1] == "passed")


SPECS = [spec for check in (are_plausible, keep_the_contract) for spec in check.check_specs]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_latest_results_of_a_check_that_never_ran(instance: dg.DagsterInstance) -> None:
    assert latest_results(instance, SPECS) == [
        CheckResult("bars", "keep_the_contract", "Every bar keeps the contract.", blocking=True),
        CheckResult("bars", "are_plausible", "Warns where a bar is odd.", blocking=False),
    ]


def test_latest_results_returns_the_newest(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    before = datetime.now(UTC)
    assert dg.materialize([bars, are_plausible, keep_the_contract], instance=instance).success
    monkeypatch.setattr(f"{__name__}.OUTCOMES", ["failed"])
    dg.materialize([bars, keep_the_contract], instance=instance, raise_on_error=False)
    blocking, warning = latest_results(instance, SPECS)
    assert (blocking.name, blocking.passed) == ("keep_the_contract", False)
    assert (warning.name, warning.passed) == ("are_plausible", False)
    assert blocking.evaluated_at is not None
    assert warning.evaluated_at is not None
    assert before <= warning.evaluated_at <= blocking.evaluated_at <= datetime.now(UTC)
