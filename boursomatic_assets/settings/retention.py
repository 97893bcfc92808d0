"""The retention policy: how long each kind of record is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.settings import keeping as variables

if TYPE_CHECKING:
    from boursomatic_assets.settings.variable import Values


@dataclass(frozen=True)
class Retention:
    """The policy: days, where 0 means for ever; `bundles` is a number of bundles."""

    recommendations: int
    bar_changes: int
    runs: int
    ticks: int
    records: int
    pages: int
    bundles: int

    @classmethod
    def from_environment(cls, environ: Values | None = None) -> Retention:
        """Read the policy from `environ`, by default `os.environ`; raises ConfigurationError if it is invalid."""
        values = os.environ if environ is None else environ
        return cls(
            recommendations=variables.KEEP_RECOMMENDATIONS.read(values),
            bar_changes=variables.KEEP_BAR_CHANGES.read(values),
            runs=variables.KEEP_RUNS.read(values),
            ticks=variables.KEEP_TICKS.read(values),
            records=variables.KEEP_RECORDS.read(values),
            pages=variables.KEEP_PAGES.read(values),
            bundles=variables.KEEP_BUNDLES.read(values),
        )
