"""The benchmark: whether it has bars, and which sessions of the books it covers."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date

# A return needs two closes.
FEWEST_BARS = 2
NEAR_SYMBOLS, NEAR = 3, 0.5
NO_BENCHMARK = "the experiment names no benchmark"


def unknown_benchmark(symbol: str, known: Collection[str], remedy: str) -> str:
    """Say that a benchmark has no bars, which of the `known` symbols are similar, and the `remedy`."""
    near = get_close_matches(symbol.upper(), sorted(known), NEAR_SYMBOLS, NEAR)
    meant = f" (near it: {', '.join(near)})" if near else ""
    return f"the benchmark {symbol!r} has no bars, among {len(known)} symbols that have{meant}: {remedy}"


def benchmark_closes(closes: pl.DataFrame) -> pl.DataFrame:
    """`session` and `close` of one instrument in time order, without bars that lack a close."""
    return closes.select("session", pl.col("close").cast(pl.Float64)).drop_nulls().drop_nans().sort("session")


def covered_sessions(closes: pl.DataFrame, sessions: Sequence[date]) -> tuple[date, ...]:
    """The books' sessions, in time order, in which an instrument has a return; none with fewer than two closes.

    Those after its first close, up to its last. The books' first session, whose close is paid, counts if the
    instrument has a close in it.
    """
    known = benchmark_closes(closes)
    if known.height < FEWEST_BARS:
        return ()
    first, last = known["session"][0], known["session"][-1]
    return tuple(
        session
        for place, session in enumerate(sessions)
        if first < session <= last or (place == 0 and first == session)
    )


def benchmark_coverage(symbol: str | None, closes: pl.DataFrame | None, sessions: Sequence[date]) -> dict[str, Any]:
    """Say how much of the books' sessions a benchmark covers, as strict JSON.

    `symbol` is None if the experiment names none; `closes` has its `session` and `close`.

    Sessions before its first bar or after its last are not compared. A session without a bar in between keeps the
    last close, and the next close brings the whole return.

    Returns `symbol`; `first`, `last` session compared; `sessions` of the books, how many are `covered`;
    `before_its_first` return, `after_its_last` bar, and `without_bar` in between; `sentence`.
    """
    if symbol is None or closes is None:
        why = NO_BENCHMARK if symbol is None else f"nobody looked at the bars of {symbol}"
        counts = dict.fromkeys(("sessions", "covered", "before_its_first", "after_its_last", "without_bar"))
        return {"symbol": symbol, "first": None, "last": None, **counts, "sentence": why}
    known, covered = benchmark_closes(closes), covered_sessions(closes, sessions)
    with_bar = set(known["session"].to_list())
    first, last = (covered[0], covered[-1]) if covered else (None, None)
    counts = {
        "sessions": len(sessions),
        "covered": len(covered),
        "before_its_first": sum(session < first for session in sessions) if first else None,
        "after_its_last": sum(session > last for session in sessions) if last else None,
        "without_bar": sum(session not in with_bar for session in covered) if covered else None,
    }
    span = {"first": str(first) if first else None, "last": str(last) if last else None}
    return {"symbol": symbol, **span, **counts, "sentence": _sentence(symbol, known, counts)}


def _sentence(symbol: str, known: pl.DataFrame, counts: dict[str, int | None]) -> str:
    if not counts["covered"]:
        bars = f"its {known.height} bars" if known.height else "no bar"
        span = f" ({known['session'][0]} to {known['session'][-1]})" if known.height else ""
        return (
            f"{symbol} is not compared: it has {bars}{span}, and needs two around the {counts['sessions']} sessions"
        )
    gaps = [
        f"{counts[name]} {what}"
        for name, what in (
            ("before_its_first", "before it has a return and not compared"),
            ("after_its_last", "after its last bar and not compared"),
            ("without_bar", "without a bar, whose return comes with its next close"),
        )
        if counts[name]
    ]
    whole = f"{symbol} covers {counts['covered']} of {counts['sessions']} sessions"
    return f"{whole}: {', '.join(gaps)}" if gaps else whole
