"""What a careful reader may conclude, in words: decided by one rule that was fixed before any figure was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.plausibility import too_good
from boursomatic_assets.errors import PanelContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.core.book_figures import Trials
    from boursomatic_assets.core.figures import Figure

# One-sided, as the usual 5 % is two-sided.
LEVEL = 0.025
# One question each: does it rank, does it pick within the session, does it earn after cost on both sides?
PRIMARY = ("matched_rank_ic", "selection_lift_buy", "long_short_sharpe_ratio")
_READ_BESIDE = ("lift_buy", "matched_lift_buy", "buy_sharpe_ratio")
FEW_PERIODS = 20


@dataclass(frozen=True)
class Verdict:
    """A conclusion.

    Attributes
    ----------
    skill : bool
        Whether there is evidence of skill.
    sentence : str
    remarks : tuple of str
        What to bear in mind beside it.
    """

    skill: bool
    sentence: str
    remarks: tuple[str, ...]


def conclude(figures: Sequence[Figure], periods: float, trials: Trials) -> Verdict:
    """Say whether figures are evidence of skill.

    Parameters
    ----------
    figures : sequence of Figure
    periods : float
        Sessions over the horizon: how many observations do not overlap.
    trials : Trials

    Returns
    -------
    Verdict
        Skill where, by Holm's rule, one of the three primary tests is significant at 2.5 % among the three:
        without skill that happens in at most 2.5 % of cases, however the three depend on each other.

    Raises
    ------
    PanelContractError
        If a figure that it is made of is missing.

    Notes
    -----
    Holm (1979), Scandinavian Journal of Statistics 6.
    """
    named = {figure.name: figure for figure in figures}
    missing = [name for name in (*PRIMARY, *_READ_BESIDE) if name not in named]
    if missing:
        message = f"a verdict needs the figures that it is made of, undefined ones as well; missing: {missing}"
        raise PanelContractError(message)
    tested = {name: named[name] for name in PRIMARY if named[name].p_value == named[name].p_value}
    if not tested:
        sentence = "No evidence of skill: there are too few sessions or names to test for it."
        return Verdict(skill=False, sentence=sentence, remarks=_remarks(named, periods, trials))
    found = _significant(list(tested.values()))
    shown = "; ".join(_shown(figure) for figure in found or tested.values())
    lead = "Evidence of skill" if found else "No evidence of skill"
    return Verdict(bool(found), f"{lead}: {shown}.", _remarks(named, periods, trials))


def _significant(tested: Sequence[Figure]) -> list[Figure]:
    """Figures significant by Holm: the smallest p-value against the level over all, the next over one fewer."""
    rising = sorted(tested, key=lambda figure: figure.p_value)
    passed = [figure.p_value <= LEVEL / (len(rising) - place) for place, figure in enumerate(rising)]
    found = rising[: passed.index(False)] if False in passed else rising
    return [figure for figure in tested if figure in found]


def _shown(figure: Figure) -> str:
    interval = f"95 % interval {figure.low:.3g} to {figure.high:.3g}, " if math.isfinite(figure.low) else ""
    beside = f"without skill {figure.no_skill:g}, p {figure.p_value:.2g}"
    return f"{figure.title} {figure.value:.3g} ({interval}{beside})"


def _remarks(named: Mapping[str, Figure], periods: float, trials: Trials) -> tuple[str, ...]:
    few = f"Sessions overlap: they hold about {periods:.0f} independent horizons"
    remarks = [
        few + (", too few to tell a small skill from none." if periods < FEW_PERIODS else "."),
        *_warning(named),
    ]
    raw, matched = named["lift_buy"], named["matched_lift_buy"]
    if raw.value > 1 and matched.value == matched.value:
        remarks.append(
            f"The raw BUY lift of {raw.value:.2f} is {matched.value:.2f} at equal volatility: volatile stocks "
            "cross both thresholds more often, and calling them needs no skill."
        )
    book = named["buy_sharpe_ratio"]
    if book.value == book.value and book.baseline == book.baseline:
        beside = "above" if book.value > book.baseline else "below"
        remarks.append(
            f"The BUY book's Sharpe of {book.value:.2f} is {beside} the {book.baseline:.2f} of holding everything "
            "in equal weights: a rising market is no skill."
        )
    if trials.count > 1:
        remarks.append(
            f"{trials.count} distinct experiments were tried on these sessions; the deflated Sharpe ratio counts "
            "them."
        )
    return tuple(remarks)


def _warning(named: Mapping[str, Figure]) -> list[str]:
    found = too_good({name: figure.value for name, figure in named.items()})
    if not found:
        return []
    titles = ", ".join(named[name].title for name in found)
    return [f"Beyond what such features can honestly reach: {titles}. Look for a leak before being glad."]
