"""One chapter of the report: all that was found out on one stretch of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report import tables
from boursomatic_assets.display.report.figures import (
    books_chart,
    cost_chart,
    decile_chart,
    rank_ic_by_year_chart,
    rank_ic_chart,
    reliability_chart,
)
from boursomatic_assets.display.report.page import (
    SPACE,
    count,
    element,
    figure,
    number,
    p_value,
    paragraph,
    section,
    sentence,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.display.report.canvas import Chart

    Judgement = Mapping[str, Any]

# Rank IC is smoothed over so many horizons: fewer would show the overlap of the returns, not the model.
HORIZONS_SMOOTHED = 3
_SCOPES = {
    "walk-forward": ("walk_forward", "Walk-forward: the record of skill"),
    "test set": ("test_set", "Test set"),
}


def named(judged: Judgement) -> tuple[str, str]:
    """Id and title of the chapter of a scope."""
    scope = str(judged.get("scope") or "test set")
    return _SCOPES.get(scope, (scope.replace(" ", "_"), scope.capitalize()))


def span(judgement: Judgement) -> str:
    """First and last session."""
    return f"{judgement.get('first_session') or '?'} to {judgement.get('last_session') or '?'}"


def size(judgement: Judgement) -> str:
    """Sessions, rows and symbols."""
    counts = [(judgement.get(name), name) for name in ("sessions", "rows", "symbols")]
    return ", ".join(f"{count(many)} {name if many != 1 else name.removesuffix('s')}" for many, name in counts)


def chapter(judgement: Judgement) -> tuple[str, list[Chart]]:
    """One scope from its figures to its folds, and the charts in it."""
    name, title = named(judgement)
    curves = judgement.get("curves") or {}
    charts = _charts(name, judgement, curves)
    bins, deciles = (curves.get(key) or () for key in ("reliability", "precision_by_decile"))
    inside = "".join(
        [
            _about(judgement),
            tables.figures_table(judgement.get("figures") or ()),
            tables.reach_table(judgement.get("figures") or (), judgement.get("could_have_been_seen") or {}),
            _survivors(judgement.get("survivors") or {}),
            element("h3", "The books"),
            figure(charts["books"], "No book was held."),
            element("h3", "Ranking"),
            figure(charts["ic"], "No session had a rank IC."),
            figure(
                charts["years"], "No year had a rank IC.", tables.years_table(curves.get("rank_ic_by_year") or ())
            ),
            element("h3", "Probabilities and calls"),
            _pair(
                figure(charts["reliability"], "No bin has a row.", tables.reliability_table(bins)),
                figure(charts["deciles"], "No decile has a call.", tables.deciles_table(deciles)),
            ),
            tables.confusion_table(curves.get("confusion") or {}),
            element("h3", "Against what it has to beat"),
            tables.comparisons_table(judgement.get("comparisons") or ()),
            _benchmark(judgement.get("benchmark") or {}),
            _best_of_all(judgement.get("superior_predictive_ability") or {}),
            element("h3", "Costs"),
            figure(charts["costs"], "No cost was tried.", tables.costs_table(curves.get("cost_sweep") or ())),
            _folds(judgement),
        ]
    )
    return section(name, title, inside), [chart for chart in charts.values() if chart]


def _survivors(survivors: Judgement) -> str:
    """How many of those that stopped trading the panel holds."""
    if not survivors:
        return ""
    return (
        element("h3", "Survivors")
        + paragraph(str(survivors.get("sentence") or ""))
        + tables.survivors_table(survivors)
    )


def _charts(name: str, judgement: Judgement, curves: Judgement) -> dict[str, Chart | None]:
    window = HORIZONS_SMOOTHED * int(judgement.get("horizon") or 1)
    return {
        "books": books_chart(f"{name}_books", curves.get("books") or {}),
        "ic": rank_ic_chart(f"{name}_ic", curves.get("rank_ic") or {}, window),
        "years": rank_ic_by_year_chart(f"{name}_years", curves.get("rank_ic_by_year") or ()),
        "reliability": reliability_chart(f"{name}_reliability", curves.get("reliability") or ()),
        "deciles": decile_chart(f"{name}_deciles", curves.get("precision_by_decile") or ()),
        "costs": cost_chart(f"{name}_costs", curves.get("cost_sweep") or ()),
    }


def _about(judgement: Judgement) -> str:
    """How much there is to learn from, and how BUY was called."""
    periods = number(judgement.get("independent_periods"), decimals=1)
    horizon = judgement.get("horizon") or "?"
    learnt = f"{span(judgement)}: {size(judgement)}; about {periods} independent periods of {horizon} sessions."
    threshold = judgement.get("threshold") or {}
    called = [sentence(str(threshold["reason"]))] if threshold.get("reason") else []
    if threshold.get("tau") is not None:
        where = "In the last fold, BUY" if judgement.get("folds") else "BUY"
        called.insert(0, f"{where} is called from a probability of {number(threshold['tau'], decimals=3)} on.")
    trials = (judgement.get("trials") or {}).get("count")
    counted = f"Trials counted on these prices: {count(trials)}." if trials is not None else ""
    return paragraph(learnt) + paragraph(" ".join([*called, counted]).strip(), "faint")


def _pair(*parts: str) -> str:
    return element("div", "".join(element("div", part) for part in parts), **{"class": "pair"})


def _benchmark(covered: Judgement) -> str:
    said = covered.get("sentence")
    return paragraph(f"Benchmark: {said}.", "faint") if said else ""


def _best_of_all(spa: Judgement) -> str:
    if spa.get("p_value") is None:
        return paragraph("The test of superior predictive ability could not be made.", "faint")
    against = ", ".join(map(str, spa.get("against") or ())) or "the baselines"
    null = f" A small p-value would speak against this: {spa['null']}." if spa.get("null") else ""
    p = f"p{SPACE}={SPACE}{p_value(spa['p_value'])}"
    return paragraph(f"Superior predictive ability (Hansen), {against}: {p}.{null}")


def _folds(judgement: Judgement) -> str:
    folds = judgement.get("folds")
    return element("h3", "Fold by fold") + tables.folds_table(folds) if folds else ""
