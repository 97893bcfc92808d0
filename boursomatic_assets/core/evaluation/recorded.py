"""One figure of a stored evaluation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Recorded(BaseModel):
    """A part of a stored evaluation; keys of later versions are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class RecordedFigure(Recorded):
    """As `Figure.to_json` writes it: None for what is undefined."""

    name: str
    title: str
    group: str
    value: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    no_skill: float | None = None
    baseline: float | None = None
    baseline_is: str | None = None
    unit: str = "number"
    why_undefined: str | None = None

    @property
    def is_inside(self) -> bool:
        """Whether the interval, where there is one, holds the value."""
        if self.low is None or self.high is None:
            return True
        return self.value is not None and self.low <= self.value <= self.high
