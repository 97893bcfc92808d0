"""An evaluation as core, services, assets and the UI read it; its JSON is what is stored."""

from __future__ import annotations

import math
from typing import Any

from boursomatic_assets.core.evaluation.book_figures import Trials  # noqa: TC001 (pydantic reads it)
from boursomatic_assets.core.evaluation.recorded import Recorded, RecordedFigure
from boursomatic_assets.core.evaluation.verdict import Verdict  # noqa: TC001


class RecordedFigures(Recorded):
    """The figures of an evaluation, which those stored by earlier versions have too."""

    figures: list[RecordedFigure]

    @property
    def values(self) -> dict[str, float]:
        """Figures by name; NaN where one is undefined."""
        return {each.name: math.nan if each.value is None else each.value for each in self.figures}


class BaselineComparison(Recorded):
    """A measure of the model less that of a baseline."""

    baseline: str
    measure: str
    difference: float | None
    low: float | None
    high: float | None
    statistic: float | None
    p_value: float | None
    note: str | None


class Reach(Recorded):
    """What a sample could have shown, as `Detection.to_json` writes it."""

    smallest: float | None
    years_for_wanted: float | None
    sentence: str


class RecordedSurvivors(Recorded):
    """As `Survivors.to_json` writes it."""

    ended: int
    by_year: list[dict[str, Any]]
    sentence: str


class Suspects(Recorded):
    """What is implausible in the prices and returns behind figures; the largest first, at most 20 of each kind."""

    # Checked; None where there were no closes.
    instruments: int | None
    moves: list[dict[str, Any]]
    moves_found: int
    instruments_grown: list[dict[str, Any]]
    # Each with the `symbol` that moved the book most and its `ratio`.
    book_sessions: list[dict[str, Any]]
    # Beyond their bounds, with symbol and session.
    figures: list[dict[str, Any]]
    # False where a move cannot have happened.
    possible: bool
    sentence: str | None


class Evaluation(RecordedFigures):
    """Everything measured on rows that no model has learned from."""

    scope: str
    first_session: str
    last_session: str
    sessions: int
    rows: int
    symbols: int
    closed_at_last_price: dict[str, Any]
    horizon: int
    independent_periods: float
    could_have_been_seen: dict[str, Reach]
    survivors: RecordedSurvivors
    comparisons: list[BaselineComparison]
    superior_predictive_ability: dict[str, Any]
    curves: dict[str, Any]
    trials: Trials
    benchmark: dict[str, Any]
    suspects: Suspects
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Strict JSON; what is undefined is None."""
        return self.model_dump(mode="json")

    @property
    def p_values(self) -> dict[str, float]:
        """Every reported p-value, by the name of its figure or comparison."""
        figures = {each.name: each.p_value for each in self.figures}
        compared = {f"{each.measure} over {each.baseline}": each.p_value for each in self.comparisons}
        searched = {"superior_predictive_ability": self.superior_predictive_ability["p_value"]}
        return {name: p for name, p in (figures | compared | searched).items() if p is not None}
