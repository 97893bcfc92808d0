"""The benchmark that books are read beside: whether it is known, and which of their sessions it covers."""

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
    """Say in one sentence that a benchmark has no bars, which symbols are near, and what to do.

    Parameters
    ----------
    symbol : str
    known : collection of str
        Symbols that have bars, or will have them.
    remedy : str
        How bars of it are brought.
    """
    near = get_close_matches(symbol.upper(), sorted(known), NEAR_SYMBOLS, NEAR)
    meant = f" (near it: {', '.join(near)})" if near else ""
    return f"the benchmark {symbol!r} has no bars, among {len(known)} symbols that have{meant}: {remedy}"


def benchmark_closes(closes: pl.DataFrame) -> pl.DataFrame:
    """`session` and `close` of one instrument in time order, of the bars that have a close."""
    return closes.select("session", pl.col("close").cast(pl.Float64)).drop_nulls().drop_nans().sort("session")


def covered_sessions(closes: pl.DataFrame, sessions: Sequence[date]) -> tuple[date, ...]:
    """Sessions in which an instrument has a return; none with fewer than two closes.

    Parameters
    ----------
    closes : DataFrame
        `session`, `close` of the one instrument.
    sessions : sequence of date
        Those of the books that it stands beside, in time order.

    Returns
    -------
    tuple of date
        Those after its first close, up to its last. In the first session, whose close is paid, no book earns
        anything: it counts where the instrument has a close by then.
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
    """Say how much of the books' sessions a benchmark covers.

    Parameters
    ----------
    symbol : str or None
        None where the experiment names none.
    closes : DataFrame or None
        Its `session`, `close`.
    sessions : sequence of date
        Those of the books, in time order.

    Returns
    -------
    dict
        Strict JSON: `symbol`; `first`, `last` session that is compared; `sessions` of the books, how many are
        `covered`; `before_its_first` return, `after_its_last` bar, and `without_bar` in between; `sentence`.

    Notes
    -----
    Sessions before its first bar or after its last are not compared. One in between without a bar keeps the last
    close, and the next close brings the return over all of them at once.
    """
    if symbol is None or closes is None:
        why = NO_BENCHMARK if symbol is None else f"nobody looked at the bars of {symbol}"
        counts = dict.fromkeys(("sessions", "covered", "before_its_first", "after_its_last", "without_bar"))
        return {"symbol": symbol, "first": None, "last": None, **counts, "sentence": why}
    known, covered = benchmark_closes(closes), covered_sessions(closes, sessions)
    with_bar = set(known["session"].to_list())
    counts = {
        "sessions": len(sessions),
        "covered": len(covered),
        "before_its_first": sum(session < covered[0] for session in sessions) if covered else None,
        "after_its_last": sum(session > covered[-1] for session in sessions) if covered else None,
        "without_bar": sum(session not in with_bar for session in covered) if covered else None,
    }
    return {
        "symbol": symbol,
        "first": str(covered[0]) if covered else None,
        "last": str(covered[-1]) if covered else None,
        **counts,
        "sentence": _sentence(symbol, known, counts),
    }


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
