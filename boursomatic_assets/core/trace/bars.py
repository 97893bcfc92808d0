"""The data end of a trace: recorded features, and the bars and adjustments from which they follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.core.dataset.features import INPUT_NAMES, compute_features, with_derived_inputs
from boursomatic_assets.core.market.usable_bars import usable_bars
from boursomatic_assets.core.market.vendor_actions import ratios_of
from boursomatic_assets.core.trace.tree import (
    CHANGED,
    DIFFERS,
    GONE,
    MATCHES,
    NOT_RECORDED,
    NOTHING,
    TraceStep,
    group_step,
    shown,
    value_step,
    values_step,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.market.vendor_actions import Adjustment
    from boursomatic_assets.core.recommendations.evidence import Evidence

# Relative difference up to which the table of features keeps its old row.
SAME_VALUE = 1e-9


def features_at(
    bars: pl.DataFrame, exchange: str | None, adjustments: Sequence[Adjustment], session: date
) -> dict[str, float | None] | None:
    """Close and model inputs of a session, computed from an instrument's bars up to it; None without a usable bar.

    `bars` are those of one symbol as the sources gave them.
    """
    placed = bars.filter(pl.col("session") <= session).with_columns(exchange=pl.lit(exchange, pl.String))
    usable = usable_bars(placed, ratios_of(placed["symbol"].first(), adjustments), [])  # type: ignore[arg-type]
    computed = with_derived_inputs(compute_features(usable).with_columns(close=usable["close"]))
    found = computed.filter(pl.col("session") == session)
    return found.select("close", *INPUT_NAMES).row(0, named=True) if found.height else None


def features_step(
    name: str,
    evidence: Evidence,
    found: Mapping[str, Any] | None,
    detail: str,
    *,
    today: Mapping[str, Any] | None = None,
) -> TraceStep:
    """Compare the recorded features, and the close where `found` has it, value by value.

    `found` is None without such a row. `today` is what changed bars and adjustments give now: values that follow
    from them are a consequence, not a source.
    """
    recorded = {"close": evidence.close, **evidence.features}
    then = {key: value for key, value in recorded.items() if found is None or key in found}
    now = {key: None if found is None else found[key] for key in then}
    step = values_step(name, then, now, detail)
    if step.is_sound:
        return step
    if today is not None and all(_agrees(value, today.get(key)) for key, value in now.items()):
        named = [child.name for child in step.children]
        before, after = (", ".join(f"{key} {shown(side[key])}" for key in named) for side in (then, now))
        return TraceStep(name, CHANGED, before, after, f"{detail}; it follows from what has changed below")
    return step if found is not None else TraceStep(name, GONE, str(evidence.session), NOTHING, detail)


def _agrees(left: float | None, right: float | None) -> bool:
    """Whether a stored value equals a computed one within `SAME_VALUE`, as the table takes it."""
    if left is None or right is None:
        return left is right
    return abs(left - right) <= SAME_VALUE * max(abs(left), abs(right))


def bars_step(
    recorded: str | None, found: str, changes: pl.DataFrame, *, is_same: bool, is_restored: bool
) -> TraceStep:
    """Compare the daily bars up to the session with the recorded ones.

    `recorded` and `found` are digests. `changes` has `session`, `column`, `then`, `now` of known changes.
    `is_same`: none of them is up to the session. `is_restored`: undoing them gives what was recorded.
    """
    if recorded is None:
        return TraceStep("bars", NOT_RECORDED, NOTHING, found, "the features were not computed by this platform")
    if is_same:
        return TraceStep("bars", MATCHES, recorded, found, "the content of all daily bars up to the session")
    parts = tuple(_changed_bar(rows) for rows in changes.partition_by("session", maintain_order=True))
    detail = f"{len(parts)} bar{'s' * (len(parts) != 1)} changed since"
    if not is_restored:
        unknown = "no change is on record that explains it: bars truncated, or altered before changes were recorded"
        detail = f"{detail}; {unknown}" if parts else unknown
    return TraceStep("bars", DIFFERS, recorded, found, detail, parts)


def _changed_bar(rows: pl.DataFrame) -> TraceStep:
    session, then, now = rows["session"].item(0), *(_values(rows, side) for side in ("then", "now"))
    status = GONE if not now else DIFFERS
    return TraceStep(str(session), status, then or "no such bar", now or "no such bar")


def _values(rows: pl.DataFrame, side: str) -> str:
    known = rows.drop_nulls(side).select("column", side).iter_rows()
    return ", ".join(f"{column} {shown(value)}" for column, value in known)


def adjustments_step(recorded: Sequence[Adjustment] | None, found: Sequence[Adjustment]) -> TraceStep:
    """Compare recorded and current adjustments; those added, altered or removed become steps."""
    if recorded is None:
        return TraceStep("adjustments", NOT_RECORDED, NOTHING, _listed(found))
    then, now = ({session: ratio for session, ratio, *_ in rows} for rows in (recorded, found))
    steps = [value_step(str(session), then.get(session), now.get(session)) for session in sorted({*then, *now})]
    broken = [step for step in steps if not step.is_sound]
    return group_step("adjustments", broken, recorded=_listed(recorded), found=_listed(found))


def _listed(adjustments: Sequence[Adjustment]) -> str:
    return ", ".join(f"{session} by {shown(ratio)}" for session, ratio, *_ in adjustments) or "none"
