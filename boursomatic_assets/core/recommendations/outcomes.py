"""Outcomes: what a recommendation returned over its horizon, and how often calls come true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES
from boursomatic_assets.core.dataset.labels import CLASS_NAMES, label_of
from boursomatic_assets.core.market.bars import require_panel
from boursomatic_assets.core.market.horizons import CALL, STOPPED, newest_sessions, spans_over
from boursomatic_assets.core.market.printed import compared, printed, told_apart
from boursomatic_assets.core.measures.inference import CONFIDENCE, MeanTest, ratio_test

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

STOP, TARGET = "stop", "target"
# A price this close has touched: scaling to today's prices may change the last digits.
TOUCH = 1e-9

_NEEDED = [*CALL, "close", "buy_threshold", "sell_threshold"]
_COLUMNS = [
    "recommendation_id", "entry_session", "entry_close", "exit_session", "exit_close", "realised_return",
    "realised_label", "hit", "first_touch", "touched_session", "ended",
]  # fmt: skip
_SUMMARY: dict[str, pl.DataType] = {
    "profile": pl.Enum(PROFILE_NAMES), "label": pl.Enum(CLASS_NAMES), "calls": pl.Int64(), "sessions": pl.Int64(),
    "expected": pl.Float64(), "realised": pl.Float64(), "difference": pl.Float64(), "low": pl.Float64(),
    "high": pl.Float64(), "p_value": pl.Float64(), "stop_first": pl.Float64(), "target_first": pl.Float64(),
    "mean_return": pl.Float64(), "stopped_trading": pl.Int64(),
}  # fmt: skip
_HOW_OFTEN = {1: "more often than expected", 0: "as often as expected", -1: "less often than expected"}


def judge_outcomes(
    waiting: pl.DataFrame, bars: pl.DataFrame, newest: Mapping[str | None, date] | None = None
) -> pl.DataFrame:
    """Outcomes of the recommendations whose horizon has passed.

    Parameters
    ----------
    waiting : DataFrame
        Recommendations without outcome: `id`, `symbol`, `exchange`, `session`, `label`, `horizon_days`; `close`,
        `stop_loss`, `take_profit` in prices of that time; `buy_threshold`, `sell_threshold`.
    bars : DataFrame
        Panel of usable bars with `exchange`, `high`, `low`, `close`, from the first of these sessions on.
    newest : mapping of str to date, optional
        `newest_sessions` of all instruments; by default of those in `bars`.

    Returns
    -------
    DataFrame
        `recommendation_id`, `entry_session`, `entry_close`, `exit_session`, `exit_close`, `realised_return`
        (fraction), `realised_label`, `hit`, `first_touch` (`stop`, `target` or null), `touched_session` and `ended`
        (`horizon` or `stopped trading`).

    Notes ----- The horizon ends as a label's does: after that many sessions of the exchange, or without a calendar
    that many own bars; the last close up to then counts. An instrument that stops trading is closed at its last
    price. A recommendation without a bar at its session, or with missing values, stays open.

    Stop and target are scaled to today's prices by the close of the recommendation's session, so that splits change
    nothing. A bar that reaches both counts as the stop.
    """
    require_panel(bars, ["exchange", "high", "low", "close"])
    newest = newest or newest_sessions(bars.select("exchange", last="session"))
    known = waiting.drop_nulls(_NEEDED).filter(pl.col("horizon_days") >= 1)
    over = spans_over(known.select("exchange", *CALL).unique(), bars, newest)
    judged = known.join(over, on=CALL)
    label = label_of(pl.col("realised_return"), pl.col("buy_threshold"), pl.col("sell_threshold"))
    labelled = judged.with_columns(
        recommendation_id="id", entry_session="session", realised_label=label.cast(pl.String)
    )
    hit = pl.col("realised_label") == pl.col("label").cast(pl.String)
    touched = labelled.with_columns(hit=hit).join(_first_touches(judged, bars), on="id", how="left")
    return touched.select(_COLUMNS).sort("entry_session", "recommendation_id")


def _first_touches(judged: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """`id`, `first_touch` and `touched_session` of the calls whose stop or target was reached."""
    scale = pl.col("entry_close") / pl.col("close")
    watched = judged.filter(pl.col("label").cast(pl.String).is_in(["BUY", "SELL"])).select(
        "id",
        rises=pl.col("label").cast(pl.String) == "BUY",
        stop=pl.col("stop_loss") * scale,
        target=pl.col("take_profit") * scale,
        row=pl.int_ranges(pl.col("entry_row") + 1, pl.col("exit_row") + 1),
    )
    prices = bars.select("high", "low", row=pl.int_range(pl.len()), touched_session="session")
    each = watched.explode("row").join(prices, on="row")
    reaches_stop = pl.when("rises").then(_falls_to("stop")).otherwise(_rises_to("stop"))
    reaches_target = pl.when("rises").then(_rises_to("target")).otherwise(_falls_to("target"))
    first_touch = pl.when(reaches_stop).then(pl.lit(STOP)).when(reaches_target).then(pl.lit(TARGET))
    touched = each.select("id", "row", "touched_session", first_touch=first_touch).drop_nulls("first_touch")
    return touched.sort("row").group_by("id", maintain_order=True).first().drop("row")


def _falls_to(price: str) -> pl.Expr:
    return pl.col("low") <= pl.col(price) * (1 + TOUCH)


def _rises_to(price: str) -> pl.Expr:
    return pl.col("high") >= pl.col(price) * (1 - TOUCH)


def summarise_outcomes(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Realised against expected precision per profile and label.

    Parameters
    ----------
    outcomes : DataFrame
        Stored outcomes with `profile`, `label`, `confidence` and `session` of the recommendation.

    Returns
    -------
    DataFrame
        `profile`, `label`, `calls`, `sessions`, `expected` precision (mean confidence), `realised` precision, their
        `difference` with interval (`low`, `high`) and two-sided `p_value`, `stop_first` and `target_first`
        (shares), `mean_return`, `stopped_trading` (calls). Null where undefined.

    Notes
    -----
    Calls of one session share a market, and neighbouring horizons overlap: the difference is a ratio of sums over
    sessions, with an error that allows for neighbours whose horizons overlap.
    """
    named = outcomes.with_columns(pl.col("profile", "label").cast(pl.String))
    groups = named.partition_by("profile", "label", as_dict=True)
    rows = [{"profile": profile, "label": label, **_record(own)} for (profile, label), own in groups.items()]
    return pl.DataFrame(rows, schema=_SUMMARY).fill_nan(None).sort("profile", "label")


def _record(calls: pl.DataFrame) -> dict[str, object]:
    """Figures of the calls of one profile and label."""
    by_session = _by_session(calls)
    tested = _difference(by_session)
    touchable = calls["label"][0] != "HOLD"
    return {
        "calls": calls.height,
        "sessions": by_session.height,
        "expected": calls["confidence"].mean(),
        "realised": calls["hit"].mean(),
        "difference": tested.value,
        "low": tested.low,
        "high": tested.high,
        "p_value": 2 * min(tested.p_value, 1 - tested.p_value),
        **{
            f"{which}_first": float((calls["first_touch"] == which).sum()) / calls.height if touchable else None
            for which in (STOP, TARGET)
        },
        "mean_return": calls["realised_return"].mean(),
        "stopped_trading": int((calls["ended"] == STOPPED).sum()),
    }


def _by_session(calls: pl.DataFrame) -> pl.DataFrame:
    """Per session with calls: hits beyond those expected (`surprise`), `calls`, and their last `exit`."""
    surprise = (pl.col("hit").cast(pl.Float64) - pl.col("confidence")).sum()
    sessions = calls.group_by("session").agg(surprise=surprise, calls=pl.len(), exit=pl.col("exit_session").max())
    return sessions.sort("session")


def _difference(by_session: pl.DataFrame) -> MeanTest:
    """Realised less expected precision."""
    overlap = shared_horizons(by_session["session"], by_session["exit"])
    surprise, count = by_session["surprise"].to_numpy(), by_session["calls"].to_numpy()
    return ratio_test(surprise, count, overlap, overlap - 1, null=0.0)


@dataclass(frozen=True)
class BuyRecord:
    """Realised and expected precision of a version's BUY calls, of all profiles; None where undefined.

    `bound` is the least realised precision that chance explains, with 95 % certainty.
    """

    version: str
    calls: int
    sessions: int
    expected: float | None
    realised: float | None
    bound: float | None

    @property
    def falls_short(self) -> bool:
        """Whether fewer calls came true than chance explains."""
        return self.bound is not None and self.realised is not None and self.realised < self.bound

    @property
    def sentence(self) -> str:
        """The same in words."""
        calls = f"BUY calls of version {self.version}"
        if self.expected is None or self.realised is None:
            return f"{calls}: none has reached the end of its horizon."
        short = told_apart(self.realised, self.bound or 0.0, 1, percent=True) if self.falls_short else None
        digits = short.digits if short else 1
        beside = compared(self.realised, self.expected, digits, percent=True)
        assert beside is not None  # noqa: S101 (both are shares)
        shares = f"{beside.first} where {beside.second} were expected"
        count = f"{self.calls:,} calls on {self.sessions:,} sessions"
        if self.bound is None:
            return f"{calls} came true in {shares} ({count}): too few sessions to tell that from chance."
        how = _HOW_OFTEN[beside.order]
        within = ", within chance" if beside.order < 0 and not self.falls_short else ""
        least = f"chance explains {printed(max(self.bound, 0.0), digits, percent=True)} or more"
        return f"{calls} came true {how}{within}: {shares}, and {least} ({count})."


def buy_record(outcomes: pl.DataFrame, version: str) -> BuyRecord:
    """Compare the BUY calls of one version with what was expected of them.

    All profiles are judged together, as one model made their calls. The bound is the expected precision less half
    the width of the interval of `summarise_outcomes`.
    """
    own = outcomes.filter((pl.col("version") == version) & (pl.col("label").cast(pl.String) == "BUY"))
    if own.is_empty():
        return BuyRecord(version, 0, 0, None, None, None)
    by_session = _by_session(own)
    tested = _difference(by_session)
    expected, realised = float(own["confidence"].mean()), float(own["hit"].mean())  # type: ignore[arg-type]
    bound = expected - (tested.value - tested.low) if np.isfinite(tested.low) else None
    return BuyRecord(version, own.height, by_session.height, expected, realised, bound)


def shared_horizons(sessions: pl.Series, exits: pl.Series) -> int:
    """Largest number of sessions with calls from one such session until its last call has ended, at least 1.

    For calls on every session that is the horizon, for weekly ones a fifth of it.
    """
    until = sessions.search_sorted(exits, side="left").to_numpy()
    return max(int((until - np.arange(sessions.len())).max()), 1)


def surprises(summary: pl.DataFrame) -> pl.DataFrame:
    """Rows of `summarise_outcomes` further from the expected precision than chance explains, by Bonferroni."""
    judged = summary.drop_nulls("p_value")
    return judged.filter(pl.col("p_value") * judged.height <= 1 - CONFIDENCE)
