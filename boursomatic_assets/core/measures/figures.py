"""A reported figure: its value, its interval, its baseline, and its p-value without skill."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One reported figure. NaN stands for an undefined number.

    Attributes
    ----------
    group : str
        `ranking`, `classification`, `calibration`, `regression` or `portfolio`.
    low, high : float
        95 % interval.
    p_value : float
        One-sided: chance of at least this value without skill.
    no_skill : float
        The value expected without skill.
    baseline : float
        The same figure of the baseline that `baseline_is` names.
    unit : str
        `number`, or `percent` for a fraction that is shown times 100.
    """

    name: str
    title: str
    group: str
    value: float
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    no_skill: float = math.nan
    baseline: float = math.nan
    baseline_is: str = ""
    unit: str = "number"
    why_undefined: str = ""

    def to_json(self) -> dict[str, Any]:
        """As strict JSON: an undefined number is null."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: (value or None) if isinstance(value, str) else finite(value) for name, value in values.items()
        } | {
            "why_undefined": None if math.isfinite(self.value) else self.why_undefined or "no row to measure it on"
        }


def finite(value: float) -> float | None:
    """A plain float for JSON; None where it is not finite."""
    return float(value) if math.isfinite(value) else None
