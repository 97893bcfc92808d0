"""A figure as it is reported: with its interval, what it is read beside, and the chance of it without skill."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One reported figure. NaN stands for what is not defined.

    Attributes
    ----------
    name : str
        Key, such as `rank_ic`.
    title : str
        What a person reads.
    group : str
        `ranking`, `classification`, `calibration`, `regression` or `portfolio`.
    value : float
    low, high : float
        95 % interval.
    p_value : float
        Chance of so large a value where there is no skill, one-sided.
    no_skill : float
        The value without skill.
    baseline : float
        The same figure of what it is read beside.
    baseline_is : str
        What that is.
    unit : str
        `number` or `percent` (a fraction that is shown times 100).
    why_undefined : str
        Why there is no value, where there is none.
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
        """As strict JSON: what is not defined is null."""
        return {field.name: _json(getattr(self, field.name)) for field in fields(self)} | {
            "why_undefined": None if math.isfinite(self.value) else self.why_undefined or "no row to measure it on"
        }


def _json(value: str | float) -> str | float | None:
    if isinstance(value, str):
        return value or None
    return finite(value)


def finite(value: float) -> float | None:
    """A plain float for JSON; None where it is not finite."""
    return float(value) if math.isfinite(value) else None
