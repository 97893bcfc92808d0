"""Tests for look-ahead leaks, as pure functions: each judges a panel by other means than those that made it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.features import LOOKBACK_SESSIONS, MONTH
from boursomatic_assets.core.market.bars import PANEL_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    Compute = Callable[[pl.DataFrame], pl.DataFrame]

# Number of symbols that a second computation covers.
SYMBOLS_LOOKED_AT = 24
# Relative difference to which two computations agree.
TOLERANCE = 1e-9
# Far above an honest feature's correlation, below that of a leaked label; see `knowledge_of_the_label`.
KNOWS = 0.4
STANDARD_ERRORS = 5.0


def sampled_symbols(spans: pl.DataFrame, count: int = SYMBOLS_LOOKED_AT) -> list[str]:
    """Choose symbols for close checks: the shortest histories, the first to end, and some across the alphabet.

    `spans` has `symbol`, its number of `rows` and its `last` session.
    """
    quarter, every = count // 4, spans.sort("symbol")["symbol"]
    shortest = spans.sort("rows", "symbol").head(quarter)["symbol"]
    ended = spans.sort("last", "symbol").head(quarter)["symbol"]
    chosen = {*shortest, *ended}
    rest = every.filter(~every.is_in(list(chosen)))
    places = np.linspace(0, rest.len() - 1, min(rest.len(), count - len(chosen))).round().astype(int)
    return sorted(chosen | set(rest.gather(places)))


def different_rows(one: pl.DataFrame, other: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Keys of the rows that only one of two panels has, or whose `columns` differ by more than `TOLERANCE`."""
    beside = one.select(*PANEL_KEY, *columns, _in_one=True).join(
        other.select(*PANEL_KEY, *columns, _in_other=True), on=PANEL_KEY, how="full", coalesce=True, suffix="_other"
    )
    alone = pl.col("_in_one").is_null() | pl.col("_in_other").is_null()
    differs = pl.any_horizontal(alone, *(_differs(pl.col(name), pl.col(f"{name}_other")) for name in columns))
    return beside.filter(differs).select(PANEL_KEY).sort(PANEL_KEY)


def _differs(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    gap = (one - other).abs()
    near = gap.is_finite() & (gap <= TOLERANCE * pl.max_horizontal(one.abs(), other.abs()))
    return one.ne_missing(other) & ~near.fill_null(value=False)


def rows_that_read_the_future(bars: pl.DataFrame, compute: Compute, columns: Sequence[str]) -> pl.DataFrame:
    """Find rows that change when later bars are removed or replaced.

    `compute` makes a panel with `columns` from a bar panel. Returns `symbol`, `session`, the `cut` after which bars
    were changed, and the `future`: `absent` or `another`.

    Each symbol is cut inside its features' lookback, at its first full row, in its widest gap, in its middle, a
    month before its end and before its last bar. A row at or before the cut may not change, appear or vanish.
    """
    full, changes = compute(bars), []
    for number, (cut, last) in enumerate(_cuts(bars).items()):
        dated = bars.join(last, on="symbol", maintain_order="left")
        past = dated.filter(pl.col("session") <= pl.col("until")).drop("until")
        later = dated.filter(pl.col("session") > pl.col("until")).drop("until")
        known = _up_to(full, last)
        for future, made in {
            "absent": past,
            "another": pl.concat([past, _other_bars(later, number)]).sort(PANEL_KEY),
        }.items():
            changed = different_rows(known, _up_to(compute(made), last), columns)
            changes.append(changed.with_columns(cut=pl.lit(cut), future=pl.lit(future)))
    empty = bars.select(PANEL_KEY).clear().with_columns(cut=pl.lit(""), future=pl.lit(""))
    return pl.concat([empty, *changes])


def _cuts(bars: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """For each cut, `symbol` and the last date that stays unchanged, of symbols with at least two bars."""
    cuts: dict[str, list[tuple[str, date]]] = {}
    for (symbol,), own in bars.group_by("symbol", maintain_order=True):
        sessions = own["session"].to_list()
        count = len(sessions)
        gaps = np.diff(own["session"].to_physical().to_numpy())
        places = {
            "inside the lookback": LOOKBACK_SESSIONS // 2,
            "at the first full row": LOOKBACK_SESSIONS,
            "in the widest gap": int(gaps.argmax()) if count > 1 else 0,
            "in the middle": count // 2,
            "a month before the end": count - 1 - MONTH,
            "before the last bar": count - 2,
        }
        for name, place in places.items():
            if 0 <= place < count - 1:
                # Up to the day before the next bar, to include rows in the gap.
                cuts.setdefault(name, []).append((str(symbol), sessions[place + 1] - timedelta(days=1)))
    schema = {"symbol": pl.String(), "until": pl.Date()}
    return {name: pl.DataFrame(rows, schema=schema, orient="row") for name, rows in cuts.items()}


def _up_to(panel: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    return panel.join(last, on="symbol").filter(pl.col("session") <= pl.col("until")).drop("until")


def _other_bars(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Valid bars at extreme prices and volumes in place of others, a fifth of them missing."""
    random = np.random.default_rng(seed)
    close, volume = pl.Series(10 ** random.uniform(-3, 5, bars.height)), 10 ** random.uniform(0, 9, bars.height)
    other = {"open": close, "high": close * 2, "low": close / 2, "close": close, "volume": pl.Series(volume)}
    return bars.with_columns(**other).filter(pl.Series(random.random(bars.height) < 0.8, dtype=pl.Boolean))  # noqa: PLR2004


def rows_that_touch_others(bars: pl.DataFrame, compute: Compute, columns: Sequence[str]) -> pl.DataFrame:
    """Keys of rows that differ when their symbol is computed alone; arguments as in `rows_that_read_the_future`."""
    return different_rows(compute(bars), computed_apart(bars, compute), columns)


def computed_apart(bars: pl.DataFrame, compute: Compute) -> pl.DataFrame:
    """Compute each symbol's rows without the other symbols' bars."""
    return pl.concat([compute(bars.clear()), *(compute(own) for own in bars.partition_by("symbol"))])


def foreign_rows(sets: Sequence[pl.DataFrame], labels: pl.DataFrame) -> int:
    """Count rows of the sets that are not, value for value, rows of the labels."""
    known = labels.hash_rows()
    return sum(int((~panel.select(labels.columns).hash_rows().is_in(known.implode())).sum()) for panel in sets)


def knowledge_of_the_label(train: pl.DataFrame, features: Sequence[str], horizon: int) -> pl.DataFrame:
    """Test whether a feature's changes predict the returns that enter the label with them.

    Parameters
    ----------
    train : DataFrame
        Label panel with `close`, the features, `forward_return` and `label_end`.
    features : sequence of str
    horizon : int

    Returns
    -------
    DataFrame
        Two rows per feature: `feature`, `among` (`instruments`: rank correlation within sessions; `sessions`: of
        the sessions' means), `correlation`, `error` (standard error under no relation), `limit` and `knows`.

    Notes
    -----
    From session t to t+k a label loses the returns of t+1..t+k and gains those of t+H+1..t+H+k. Nobody can know
    these at t+k, so that they are unrelated to the change of an honest feature, however persistent; levels of
    persistent features do correlate with overlapping returns, by chance. The change of the label itself correlates
    with them by 1/sqrt(2) = 0.71, and by 0.5 with noise of half the label's deviation. If all prices were noise
    around a constant, the change of a one-session return would correlate by 0.29 with the next but one. k is a
    quarter of the horizon; the spans do not overlap, so that their number counts. A feature beyond `KNOWS` and five
    standard errors knows the label.
    """
    step = max(1, horizon // 4)
    changes = _changes(train, features, step)
    rows = []
    for name in features:
        known = changes.select("session", "entering", feature=name).drop_nulls()
        for among, measure in {"instruments": _within_sessions, "sessions": _between_sessions}.items():
            correlation, error = measure(known)
            limit = max(KNOWS, STANDARD_ERRORS * error)
            rows.append((name, among, correlation, error, limit, abs(correlation) > limit))
    numbers = dict.fromkeys(("correlation", "error", "limit"), pl.Float64)
    schema = {"feature": pl.String, "among": pl.String, **numbers, "knows": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _changes(train: pl.DataFrame, features: Sequence[str], step: int) -> pl.DataFrame:
    """`session`, the label's change `entering`, and each feature's change, at every `step`-th session."""
    outcome = (1 + pl.col("forward_return")) * pl.col("close")
    sessions = train["session"].unique().sort().gather_every(step)
    later = pl.col("session").shift(-step).over("symbol")
    moved = train.select(
        "session",
        *(pl.col(name).shift(-step).over("symbol") - pl.col(name) for name in features),
        entering=outcome.shift(-step).over("symbol") / outcome - 1,
        # After a long gap the label's change would already be known.
        in_time=later <= pl.col("label_end"),
    )
    return moved.filter(pl.col("in_time") & pl.col("session").is_in(sessions.implode()))


def _within_sessions(known: pl.DataFrame) -> tuple[float, float]:
    """Mean rank correlation over sessions, weighted by their degrees of freedom, and its standard error."""
    each = (
        known.group_by("session")
        .agg(value=pl.corr("feature", "entering", method="spearman"), weight=pl.len() - 1.0)
        .filter(pl.col("value").is_finite())
    )
    value, weight = each["value"].to_numpy(), each["weight"].to_numpy()
    if not value.size:
        return 0.0, 1.0
    mean = float(np.average(value, weights=weight))
    by_chance = 1 / np.sqrt(weight.sum())
    # Instruments move together, so that the sessions scatter more than by chance.
    observed = np.sqrt(np.sum(weight**2 * (value - mean) ** 2)) / weight.sum()
    return mean, float(max(by_chance, observed))


def _between_sessions(known: pl.DataFrame) -> tuple[float, float]:
    """Rank correlation of the sessions' means, and its standard error under no relation."""
    means = known.group_by("session").agg(pl.col("feature", "entering").mean())
    value = means.select(pl.corr("feature", "entering", method="spearman")).item() if means.height > 1 else None
    if value is None or not np.isfinite(value):
        return 0.0, 1.0
    return float(value), float(1 / np.sqrt(means.height - 1))
