"""Reasons of a recommendation, in two or three sentences for beginners.

This module chooses the facts; `sentences` has the words. Only facts: what price and volume did, how the model
counts it, how sure the model is. No cause that nobody measured, and no advice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boursomatic_assets.core.recommendations.amounts import amount, percent, percent_size
from boursomatic_assets.core.recommendations.sentences import LANGUAGES, Remark, chance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The model is said to be sure from this probability on, with this lead over the second.
SURE_PROBABILITY = 0.50
SURE_MARGIN = 0.10
# A second contribution smaller than this share of the first decides little and is not told.
SECOND_SHARE = 0.3
# Equal by definition: told once, with the sum of their contributions.
_SAME_AS = {"momentum_5d": "ret_5d"}
# Distances of the RSI from 50: one side outweighs, and clearly outweighs (the customary 30 and 70).
_LEANS, _ONE_SIDED = 6, 20
# Distances of the volume from its average, in standard deviations: unusual, and very unusual.
_UNUSUAL, _VERY_UNUSUAL = 0.5, 2.0
_PRICE, _VOLUME = Remark("price"), Remark("volume")


@dataclass(frozen=True)
class Facts:
    """The facts that a justification may state.

    `probability` is the calibrated one of `label`; `held_back` says why a HOLD is no call; `contributions` are
    those of the features to the score of `label`. Returns and thresholds are fractions; `horizon` counts sessions.
    """

    label: str
    held_back: str | None
    probability: float
    calibrated: Mapping[str, float]
    expected_return: float
    horizon: int
    features: Mapping[str, float | None]
    close: float
    contributions: Mapping[str, float]
    profile: str
    max_volatility: float
    tau: float | None
    buy_threshold: float | None = None
    sell_threshold: float | None = None


def justify(facts: Facts) -> dict[str, str]:
    """Three sentences in each language, `en` and `fr`, which say the same."""
    if facts.held_back is None:
        remarks = (_what_happened(facts), _how_sure(facts), _what_is_expected(facts))
    else:
        remarks = (_what_happened(facts), _what_kept_it(facts, facts.held_back), _how_sure(facts))
    return {code: language.tell(remarks) for code, language in LANGUAGES.items()}


def _what_happened(facts: Facts) -> Remark:
    """The one or two features that count most, and which way the model counts each."""
    totals: dict[str, float] = {}
    values: dict[str, float | None] = {}
    for name in sorted(facts.contributions):
        told = _SAME_AS.get(name, name)
        totals[told] = totals.get(told, 0.0) + facts.contributions[name]
        values[told] = facts.features.get(name)
    ranked = sorted((name for name in totals if totals[name]), key=lambda name: (-abs(totals[name]), name))
    label = Remark(facts.label)
    if not ranked:
        return Remark("nothing", {"label": label})
    largest = abs(totals[ranked[0]])
    kept = [name for name in ranked[:2] if abs(totals[name]) >= SECOND_SHARE * largest]
    sides = " and ".join("for" if totals[name] > 0 else "against" for name in kept)
    clauses = [_describe(name, values[name], facts.close) for name in kept]
    parts = {"label": label, "first": _clause(*clauses[0])}
    for clause in clauses[1:]:
        parts["second"] = _joined(clauses[0], clause)
    return Remark(sides, parts)


def _clause(subject: Remark, predicate: Remark) -> Remark:
    return Remark("clause", {"subject": subject, "predicate": predicate})


def _joined(before: tuple[Remark, Remark], after: tuple[Remark, Remark]) -> Remark:
    """Name once what both share: the price fell 6 % over the last month and 2 % over the last week."""
    (before_subject, before_predicate), (subject, predicate) = before, after
    if subject != before_subject:
        return _clause(subject, predicate)
    moved_alike = predicate.entry == before_predicate.entry and predicate.entry in {"rose", "fell"}
    return Remark("as well", predicate.parts) if moved_alike else predicate


def _what_kept_it(facts: Facts, held_back: str) -> Remark:
    profile = Remark(facts.profile)
    if held_back == "probability":
        return Remark("probability", {"profile": profile})
    reason = _above_the_limit(facts) if held_back == "volatility" else _below_the_threshold(facts.tau)
    return Remark("almost", {"profile": profile, "reason": reason})


def _below_the_threshold(tau: float | None) -> Remark:
    return Remark("some threshold") if tau is None else Remark("threshold", {"bound": percent(tau)})


def _above_the_limit(facts: Facts) -> Remark:
    volatility = facts.features["vol_20d"]
    if volatility is None or not math.isfinite(volatility):
        return Remark("no volatility")
    size, bound = percent_size(volatility), percent(facts.max_volatility)
    # Where rounding hides which is larger, show as many decimals as the limit has.
    order = _order(size, bound)
    size = percent(volatility) if order < 0 else size
    return Remark("slight volatility" if order <= 0 else "volatility", {"size": size, "bound": bound})


def _order(size: str, bound: str) -> int:
    first, second = (float(text.replace(",", "")) for text in (size, bound))
    return (first > second) - (first < second)


def _how_sure(facts: Facts) -> Remark:
    """The three probabilities, and whether they make the model sure."""
    chances = {**facts.calibrated, facts.label: facts.probability}
    ranked = sorted(chances, key=lambda name: (-chances[name], name != facts.label, name))
    best, second = (chances[name] for name in ranked[:2])
    sure = best >= SURE_PROBABILITY and best >= second + SURE_MARGIN
    # Of two probabilities that print alike none is ahead.
    other_ahead = chance(best) != chance(chances[facts.label])
    lead = "clear" if sure else "unsure, other ahead" if other_ahead else "unsure"
    verdict = Remark(lead, {"best": Remark(ranked[0])})
    if other_ahead and facts.held_back is None:
        parts = {"lead": verdict, "label": Remark(facts.label), "profile": Remark(facts.profile)}
        verdict = Remark("other called", parts)
    told = [facts.label, *(name for name in ranked if name != facts.label)]
    each = [Remark("label at chance", {"label": Remark(name), "chance": chance(chances[name])}) for name in told]
    return Remark("chances", {**dict(zip(("first", "second", "third"), each, strict=True)), "verdict": verdict})


def _what_is_expected(facts: Facts) -> Remark:
    """The forecast, which may contradict the label: it comes from another model."""
    span = Remark("next") if facts.horizon == 1 else Remark("span", {"sessions": str(facts.horizon)})
    size = percent_size(facts.expected_return)
    direction = "no change" if size == "0" else "rise" if facts.expected_return > 0 else "fall"
    outcome = Remark(direction, {"size": size})
    contrary = "contrary " if (facts.label, direction) in {("BUY", "fall"), ("SELL", "rise")} else ""
    bounds = {"BUY": ("at least", facts.buy_threshold), "SELL": ("at most", facts.sell_threshold)}
    side, bound = bounds.get(facts.label, ("", None))
    if bound is None:
        return Remark(contrary + "forecast", {"outcome": outcome, "span": span})
    meaning = Remark(side, {"label": Remark(facts.label), "bound": percent(bound, "+"), "span": span})
    return Remark(contrary + "meaning", {"meaning": meaning, "outcome": outcome})


def _describe(name: str, value: float | None, close: float) -> tuple[Remark, Remark]:
    """A feature's value as subject and predicate."""
    named = Remark("feature", {"name": name})
    if value is None or not math.isfinite(value):
        subject, predicate = _UNDEFINED.get(name, (named, Remark("is unknown")))
    elif name in _DESCRIBED:
        subject, predicate = _DESCRIBED[name](value, close)
    else:
        subject, predicate = named, Remark("is", {"amount": amount(value)})
    return subject, predicate


def _moved(span: str) -> Callable[[float, float], tuple[Remark, Remark]]:
    def describe(value: float, _close: float) -> tuple[Remark, Remark]:
        size = percent_size(value)
        entry = "stayed" if size == "0" else "rose" if value > 0 else "fell"
        return _PRICE, Remark(entry, {"size": size, "span": Remark(span)})

    return describe


def _swings(value: float, _close: float) -> tuple[Remark, Remark]:
    size = percent_size(value)
    return _PRICE, Remark("is calm" if size == "0" else "swings", {"size": size})


def _ranges(value: float, close: float) -> tuple[Remark, Remark]:
    size = percent_size(value / close)
    return _PRICE, Remark("ranges little" if size == "0" else "ranges", {"amount": amount(value), "size": size})


def _ranges_relatively(value: float, _close: float) -> tuple[Remark, Remark]:
    size = percent_size(value)
    return _PRICE, Remark("ranges little" if size == "0" else "ranges relatively", {"size": size})


def _strength(value: float, _close: float) -> tuple[Remark, Remark]:
    level = f"{value:.0f}"
    distance = int(level) - 50
    if abs(distance) < _LEANS:
        return Remark("rises and falls"), Remark("balance", {"level": level})
    subject, entry = ("rises", "outweigh falls") if distance > 0 else ("falls", "outweigh rises")
    return Remark(subject), Remark(f"clearly {entry}" if abs(distance) >= _ONE_SIDED else entry, {"level": level})


def _volume(value: float, _close: float) -> tuple[Remark, Remark]:
    times = f"{abs(value):.1f}"
    degree = float(times)
    if degree < _UNUSUAL:
        return _VOLUME, Remark("is usual")
    side = "high" if value > 0 else "low"
    entry = f"is very {side}" if degree >= _VERY_UNUSUAL else f"is {side}"
    return _VOLUME, Remark(entry, {"times": times})


_DESCRIBED: dict[str, Callable[[float, float], tuple[Remark, Remark]]] = {
    "ret_1d": _moved("ret_1d"),
    "ret_5d": _moved("ret_5d"),
    "ret_20d": _moved("ret_20d"),
    "rsi_14": _strength,
    "vol_20d": _swings,
    "atr_14": _ranges,
    "natr_14": _ranges_relatively,
    "volume_zscore": _volume,
}
# Meaning of a null after all the history that the feature needs.
_UNDEFINED = {"rsi_14": (_PRICE, Remark("never moved")), "volume_zscore": (_VOLUME, Remark("never varied"))}
