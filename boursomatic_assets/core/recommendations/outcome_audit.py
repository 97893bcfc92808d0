"""Independent second computation of outcomes: a loop over one recommendation's bars."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_of, sessions_between

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import polars as pl

# Largest difference between two computations of one price or return.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class SlowOutcome:
    """Outcome of one recommendation, computed bar by bar."""

    exit_session: date
    realised_return: float
    first_touch: str | None
    touched_session: date | None


def slow_outcome(call: Mapping[str, Any], bars: pl.DataFrame) -> SlowOutcome | None:
    """Judge one recommendation whose horizon has passed; None without a bar at its session.

    `call` has `exchange`, `session`, `label`, `horizon_days`, and `close`, `stop_loss`, `take_profit` in prices of
    that time. `bars` are usable bars of its instrument from its session on.
    """
    sessions, closes = bars["session"].to_list(), bars["close"].to_list()
    entry = bisect_left(sessions, call["session"])
    if entry == len(sessions) or sessions[entry] != call["session"]:
        return None
    leave = _exit_place(call, sessions, entry)
    scale = closes[entry] / call["close"]
    touch: tuple[str, date] | None = None
    ranges = zip(sessions, bars["high"].to_list(), bars["low"].to_list(), strict=True)
    for session, high, low in list(ranges)[entry + 1 : leave + 1]:
        which = _touched(call, high / scale, low / scale)
        if which is not None:
            touch = (which, session)
            break
    gain = closes[leave] / closes[entry] - 1
    return SlowOutcome(sessions[leave], gain, *(touch or (None, None)))


def _exit_place(call: Mapping[str, Any], sessions: list[date], entry: int) -> int:
    """Place of the bar whose close counts."""
    calendar, horizon, newest = calendar_of(call["exchange"]), int(call["horizon_days"]), len(sessions) - 1
    if calendar is None or call["session"] < FIRST_SESSION:
        return min(entry + horizon, newest)
    known = sessions_between(calendar, call["session"], sessions[-1]).to_list()
    later = [session for session in known if session > call["session"]]
    return newest if len(later) < horizon else bisect_right(sessions, later[horizon - 1]) - 1


def _touched(call: Mapping[str, Any], high: float, low: float) -> str | None:
    """Which of the two prices a bar reached; the stop where it reached both."""
    stop, target = call["stop_loss"], call["take_profit"]
    if call["label"] == "HOLD" or stop is None or target is None:
        return None
    # A fall is a rise of the negative price: one rule then serves both labels.
    best, worst = (high, low) if call["label"] == "BUY" else (-low, -high)
    sign = 1 if call["label"] == "BUY" else -1
    near = TOLERANCE * abs(stop), TOLERANCE * abs(target)
    if worst <= sign * stop + near[0]:
        return "stop"
    return "target" if best >= sign * target - near[1] else None


def differences(stored: Mapping[str, Any], call: Mapping[str, Any], found: SlowOutcome) -> list[str]:
    """Names of the values of a stored outcome that the bars contradict; `call` with both thresholds."""
    gain = stored["realised_return"]
    label = "BUY" if gain >= call["buy_threshold"] else "SELL" if gain <= call["sell_threshold"] else "HOLD"
    differing = {
        "exit_session": stored["exit_session"] != found.exit_session,
        # A split may have scaled the prices since; their ratio stays.
        "exit_close": abs(stored["exit_close"] / stored["entry_close"] - 1 - gain) > TOLERANCE,
        "realised_return": abs(gain - found.realised_return) > TOLERANCE,
        "realised_label": stored["realised_label"] != label,
        "hit": stored["hit"] != (label == call["label"]),
        "first_touch": stored["first_touch"] != found.first_touch,
        "touched_session": stored["touched_session"] != found.touched_session,
    }
    return [name for name, differs in differing.items() if differs]
