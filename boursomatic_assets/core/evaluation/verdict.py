"""Conclusion from the figures, by one rule that was fixed before any figure was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.evaluation.plausibility import too_good
from boursomatic_assets.core.market.printed import compared, printed
from boursomatic_assets.errors import PanelContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.evaluation.book_figures import Trials
    from boursomatic_assets.core.evaluation.survivors import Survivors
    from boursomatic_assets.core.measures.figures import Figure

# One-sided: the usual two-sided 5 %.
LEVEL = 0.025
# Ranking, selection within a session, and long-short return after cost.
PRIMARY = ("matched_rank_ic", "selection_lift_buy", "long_short_sharpe_ratio")
_READ_BESIDE = ("lift_buy", "matched_lift_buy", "buy_sharpe_ratio")
FEW_PERIODS = 20


@dataclass(frozen=True)
class Verdict:
    """Whether there is evidence of skill, in one sentence, with additional remarks."""

    skill: bool
    sentence: str
    remarks: tuple[str, ...]


def conclude(figures: Sequence[Figure], periods: float, trials: Trials, survivors: Survivors) -> Verdict:
    """Conclude whether figures are evidence of skill.

    Skill means that one of the three primary tests is significant at 2.5 % by the rule of Holm (1979), Scandinavian
    Journal of Statistics 6. Without skill this happens in at most 2.5 % of cases, under any dependence of the
    tests. `periods` is the number of sessions over the horizon: observations that do not overlap. The sentence
    qualifies skill that is measured on survivors.

    Raises PanelContractError if a required figure is missing.
    """
    named = {figure.name: figure for figure in figures}
    missing = [name for name in (*PRIMARY, *_READ_BESIDE) if name not in named]
    if missing:
        message = f"a verdict needs the figures that it is made of, undefined ones as well; missing: {missing}"
        raise PanelContractError(message)
    tested = {name: named[name] for name in PRIMARY if named[name].p_value == named[name].p_value}
    remarks = _remarks(named, periods, trials, survivors)
    if not tested:
        sentence = "No evidence of skill: there are too few sessions or names to test for it."
        return Verdict(skill=False, sentence=sentence, remarks=remarks)
    found = _significant(list(tested.values()))
    shown = "; ".join(_shown(figure) for figure in found or tested.values())
    if not found:
        return Verdict(skill=False, sentence=f"No evidence of skill: {shown}.", remarks=remarks)
    qualified = survivors.qualification
    lead = f"Evidence of skill, {qualified}; " if qualified else "Evidence of skill: "
    return Verdict(skill=True, sentence=f"{lead}{shown}.", remarks=remarks)


def _significant(tested: Sequence[Figure]) -> list[Figure]:
    """Significant figures by Holm: the smallest p-value against the level over all, the next over one fewer."""
    rising = sorted(tested, key=lambda figure: figure.p_value)
    passed = [figure.p_value <= LEVEL / (len(rising) - place) for place, figure in enumerate(rising)]
    found = rising[: passed.index(False)] if False in passed else rising
    return [figure for figure in tested if figure in found]


def _shown(figure: Figure) -> str:
    interval = f"95 % interval {figure.low:.3g} to {figure.high:.3g}, " if math.isfinite(figure.low) else ""
    beside = f"without skill {figure.no_skill:g}, p {figure.p_value:.2g}"
    return f"{figure.title} {figure.value:.3g} ({interval}{beside})"


def _remarks(named: Mapping[str, Figure], periods: float, trials: Trials, survivors: Survivors) -> tuple[str, ...]:
    remarks = [_overlap(periods), survivors.sentence, *_warning(named), *_lift(named), *_equal_weight(named)]
    if trials.count > 1:
        remarks.append(
            f"{trials.count} distinct experiments were tried on these sessions; the deflated Sharpe ratio counts "
            "them."
        )
    return tuple(remarks)


def _overlap(periods: float) -> str:
    shown = printed(periods, 0)
    few = ", too few to tell a small skill from none" if float(shown) < FEW_PERIODS else ""
    return f"Sessions overlap: they hold about {shown} independent horizons{few}."


def _lift(named: Mapping[str, Figure]) -> list[str]:
    """Remark on a raw BUY lift above 1: its value at equal volatility."""
    raw, matched = named["lift_buy"].value, named["matched_lift_buy"].value
    beside, over_none = compared(matched, raw, 2), compared(raw, 1.0, 2)
    if beside is None or over_none is None or over_none.order <= 0:
        return []
    why = (
        "volatile stocks cross both thresholds more often, and calling them needs no skill"
        if beside.order < 0
        else "the volatility of the stocks called explains none of it"
    )
    return [f"The raw BUY lift of {beside.second} is {beside.first} at equal volatility: {why}."]


def _equal_weight(named: Mapping[str, Figure]) -> list[str]:
    """Remark on the BUY book's Sharpe ratio beside that of equal weights, and on a rising market."""
    book = named["buy_sharpe_ratio"]
    found = compared(book.value, book.baseline, 2)
    if found is None:
        return []
    held = f"The BUY book's Sharpe of {found.first} {found.words} the {found.second} of holding everything"
    total = named["buy_total_return"].baseline if "buy_total_return" in named else math.nan
    gained = compared(total, 0.0, 1, percent=True)
    earned = compared(book.value, 0.0, 2)
    if found.order <= 0 and gained and gained.order > 0 and earned and earned.order > 0:
        gain = f"which gained {gained.first} over these sessions"
        return [f"{held} in equal weights, {gain}: a rising market is no skill."]
    return [f"{held} in equal weights."]


def _warning(named: Mapping[str, Figure]) -> list[str]:
    found = too_good({name: figure.value for name, figure in named.items()})
    if not found:
        return []
    titles = ", ".join(named[name].title for name in found)
    return [f"Beyond what such features can honestly reach: {titles}. Look for a leak before being glad."]
