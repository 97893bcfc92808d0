"""The promotion gate: a new version replaces the active one only where it is not worse."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.market.printed import compared, printed, signed, told_apart
from boursomatic_assets.core.registry.comparison import Comparison, compare
from boursomatic_assets.core.registry.contenders import Contender, Unscored, common_rows, score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.registry.comparison import Difference

# Versions whose labels differ in one of these cannot be scored on the same rows.
LABEL_SETTINGS = ("horizon", "buy_threshold", "sell_threshold")
# A bootstrap of blocks as long as the horizon needs several.
FEWEST_HORIZONS = 2
# Decimals of a log loss in nats, and of a lift or a rank IC.
_LOSS_DIGITS, _SHARE_DIGITS = 4, 3


@dataclass(frozen=True)
class GateDecision:
    """Whether a version becomes the active one, and why.

    `champion` is the active version it was compared with, None for the first. `sessions` were scored by both, 0
    where they were not. `figures` is strict JSON: mode, margin, and what was compared.
    """

    promoted: bool
    reason: str
    champion: str | None
    challenger: str
    sessions: int
    figures: dict[str, Any]

    @property
    def active(self) -> str:
        """The version that is active once this is recorded."""
        return self.challenger if self.promoted or self.champion is None else self.champion

    def to_json(self) -> dict[str, Any]:
        """Strict JSON, as the version's row keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> GateDecision:
        """Read what `to_json` has written; what a row lacks is None."""
        values: dict[str, Any] = {each.name: stored.get(each.name) for each in fields(cls)}
        return cls(**values)


def decide(
    challenger: Contender, champion: Contender | Unscored | None, test_set: pl.DataFrame, experiment: Experiment
) -> GateDecision:
    """Decide whether a new version becomes the active one, by the rule in the challenger's `experiment.promotion`.

    Parameters
    ----------
    champion : Contender, Unscored or None
        The active version; None where there is none.
    test_set : DataFrame
        The challenger's test set, with the columns of both contenders.

    Notes
    -----
    The first version is always promoted. In mode `gate` so is one that cannot be compared, and the reason says so.
    """
    rule = experiment.promotion.model_dump(mode="json")
    if champion is None:
        reason = "Promoted: it is the first, and there is no active version that it could be worse than."
        return GateDecision(True, reason, None, challenger.version, 0, rule)  # noqa: FBT003
    comparison = _compared(challenger, champion, test_set, experiment)
    mode, name = experiment.promotion.mode, champion.version
    if mode == "always":
        promoted, reason = True, f"Promoted in place of {name}: promotion.mode is always, whatever the figures."
    elif mode == "never":
        promoted, reason = False, f"Not promoted, {name} stays: promotion.mode is never, whatever the figures."
    elif isinstance(comparison, str):
        promoted = True
        reason = f"Promoted in place of {name}, with which it could not be compared: {comparison}."
    else:
        promoted, reason = weigh(comparison, name, experiment.promotion.margin)
    if isinstance(comparison, str):
        return GateDecision(promoted, reason, name, challenger.version, 0, rule)
    figures = {**rule, **comparison.to_json()}
    return GateDecision(promoted, reason, name, challenger.version, comparison.sessions, figures)


def _compared(
    challenger: Contender, champion: Contender | Unscored, test_set: pl.DataFrame, experiment: Experiment
) -> Comparison | str:
    """Compare both, or say why that is impossible."""
    if isinstance(champion, Unscored):
        return champion.why
    theirs = champion.serving.experiment
    other = [name for name in LABEL_SETTINGS if getattr(theirs, name) != getattr(experiment, name)]
    if other:
        return f"its labels have another meaning ({', '.join(other)})"
    rows = common_rows(test_set, challenger, champion)
    # A test of a mean needs two more values than its horizon.
    sessions, needed = rows["session"].n_unique(), max(FEWEST_HORIZONS * experiment.horizon, experiment.horizon + 2)
    if sessions < needed:
        return (
            f"only {sessions} sessions of its test window lie after what both have learned from, and {needed} are "
            f"needed ({FEWEST_HORIZONS} horizons)"
        )
    return compare(score(rows, challenger.serving), score(rows, champion.serving), experiment)


def weigh(found: Comparison, champion: str, margin: float) -> tuple[bool, str]:
    """Apply the rule of the gate: whether a challenger passes, and the reason for people.

    It passes if its log loss is not inferior by more than `margin` nats with 95 % certainty, and neither lift nor
    rank IC is lower with its whole interval. An undefined lift or rank IC counts for neither side.
    """
    loss = found.log_loss
    faults = _faults(found, margin)
    where = f"on the same {found.sessions} sessions, {found.first_session} to {found.last_session}"
    if faults:
        return False, f"Not promoted, {champion} stays: {where}, {'; '.join(faults)}."
    digits = _digits(loss.upper_bound, margin)
    shown = (
        f"log loss {signed(loss.value, digits)} nats, with 95 % certainty at most "
        f"{signed(loss.upper_bound, digits)}; {margin:g} more is allowed"
    )
    return True, f"Promoted in place of {champion}: not worse {where} by more than is allowed ({shown})."


def _faults(found: Comparison, margin: float) -> Sequence[str]:
    faults = [] if found.log_loss.upper_bound <= margin else [_higher_loss(found.log_loss, margin)]
    for name, part in (("BUY lift at equal volatility", found.matched_lift), ("rank IC", found.rank_ic)):
        if part.high < 0:
            faults.append(f"its {name} is lower {_by_how_much(part)}")
    return faults


def _higher_loss(loss: Difference, margin: float) -> str:
    # Most refusals are of this kind, and a closer look may be worth it.
    doubt = "" if loss.low > 0 else "; that it is higher at all is not certain"
    if not math.isfinite(loss.upper_bound):
        return f"its log loss may be higher by more than can be told{doubt}, and {margin:g} is allowed"
    digits = _digits(loss.upper_bound, margin)
    may = f"its log loss may be {printed(loss.upper_bound, digits)} nats higher"
    return f"{may} (95 %; most likely {signed(loss.value, digits)}{doubt}), and {margin:g} is allowed"


def _by_how_much(part: Difference) -> str:
    """Size of a fall whose whole interval is below zero, printed so that it reads so."""
    digits = _digits(part.high, 0.0, _SHARE_DIGITS)
    least, most = printed(-part.high, digits), printed(-part.low, digits)
    middle = compared(part.value, 0.0, digits)
    if middle is None or middle.order >= 0:
        return f"with its whole 95 % interval (by {least} to {most})"
    return f"by {printed(-part.value, digits)} ({least} to {most}, 95 %)"


def _digits(value: float, bound: float, fewest: int = _LOSS_DIGITS) -> int:
    """Decimals that show on which side of a bound a figure lies, and no fewer than the bound has."""
    exponent = Decimal(f"{bound:g}").as_tuple().exponent
    least = max(fewest, -exponent) if isinstance(exponent, int) else fewest
    found = told_apart(value, bound, least)
    return found.digits if found else least
