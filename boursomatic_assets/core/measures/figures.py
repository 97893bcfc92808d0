"""A reported figure: its value, its interval, its baseline, and its p-value without skill."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One reported figure. NaN stands for an undefined number."""

    name: str
    title: str
    group: str  # ranking, classification, calibration, regression or portfolio
    value: float
    low: float = math.nan  # of the 95 % interval
    high: float = math.nan
    p_value: float = math.nan  # one-sided: chance of at least this value without skill
    no_skill: float = math.nan  # the value expected without skill
    baseline: float = math.nan  # the same figure of the baseline that `baseline_is` names
    baseline_is: str = ""
    unit: str = "number"  # number, or percent for a fraction that is shown times 100
    why_undefined: str = ""

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: an undefined number is null."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        why = None if math.isfinite(self.value) else self.why_undefined or "no row to measure it on"
        strict = {
            name: value or None if isinstance(value, str) else finite(value) for name, value in values.items()
        }
        return strict | {"why_undefined": why}


def finite(value: float) -> float | None:
    """A plain float for JSON; None where it is not finite."""
    return float(value) if math.isfinite(value) else None
