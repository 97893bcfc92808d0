"""One chapter of the report: an evaluation of one span of sessions, and its charts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.figures import (
    books_chart,
    cost_chart,
    decile_chart,
    rank_ic_by_year_chart,
    rank_ic_chart,
    reliability_chart,
)
from boursomatic_assets.display.report.filters import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.display.report.canvas import Chart

# Window that smooths rank IC, in horizons. A shorter one would show mostly the overlap of the returns.
HORIZONS_SMOOTHED = 3
_SCOPES = {
    "walk-forward": ("walk_forward", "Walk-forward: the record of skill"),
    "test set": ("test_set", "Test set"),
}


@dataclass(frozen=True)
class Chapter:
    """Values for the template `chapter.html`. Any key of the evaluation may be missing."""

    judged: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The heading's id."""
        return self._scope[0]

    @property
    def title(self) -> str:
        """The heading."""
        return self._scope[1]

    @property
    def short_title(self) -> str:
        """The heading without its explanation."""
        return self.title.partition(":")[0]

    @property
    def _scope(self) -> tuple[str, str]:
        scope = str(self.judged.get("scope") or "test set")
        return _SCOPES.get(scope, (scope.replace(" ", "_"), scope.capitalize()))

    @property
    def span(self) -> str:
        """First and last session."""
        return f"{self.judged.get('first_session') or '?'} to {self.judged.get('last_session') or '?'}"

    @property
    def size(self) -> str:
        """Sessions, rows and symbols."""
        counts = [(self.judged.get(name), name) for name in ("sessions", "rows", "symbols")]
        return ", ".join(
            f"{whole_number(many)} {name if many != 1 else name.removesuffix('s')}" for many, name in counts
        )

    @cached_property
    def charts(self) -> dict[str, Chart | None]:
        """The charts; None where there is nothing to draw."""
        name, curves = self.name, self.judged.get("curves") or {}
        window = HORIZONS_SMOOTHED * int(self.judged.get("horizon") or 1)
        return {
            "books": books_chart(f"{name}_books", curves.get("books") or {}),
            "ic": rank_ic_chart(f"{name}_ic", curves.get("rank_ic") or {}, window),
            "years": rank_ic_by_year_chart(f"{name}_years", curves.get("rank_ic_by_year") or ()),
            "reliability": reliability_chart(f"{name}_reliability", curves.get("reliability") or ()),
            "deciles": decile_chart(f"{name}_deciles", curves.get("precision_by_decile") or ()),
            "costs": cost_chart(f"{name}_costs", curves.get("cost_sweep") or ()),
        }
