"""Sums over the rows of each session: intervals and tests of all figures resample sessions, never rows."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.bars import PANEL_KEY, require_rows
from boursomatic_assets.core.measures import classification, forecasts
from boursomatic_assets.core.measures.calibration import row_brier_score, row_log_loss
from boursomatic_assets.core.measures.classification import volatility_deciles
from boursomatic_assets.core.measures.inference import clark_west_terms
from boursomatic_assets.core.measures.ranking import volatility_groups

FORECASTERS = {
    "model": classification.MODEL, "volatility": "volatility_probability", "prior": classification.PRIOR,
}  # fmt: skip
_NEEDED = (
    "label", "call", "forward_return", forecasts.MODEL, forecasts.PRIOR,
    *(column for who in ("model", "prior") for column in classification.probability_columns(FORECASTERS[who])),
)  # fmt: skip


def session_sums(judged: pl.DataFrame) -> pl.DataFrame:
    """What each session adds to the sums of which the figures are made, in order.

    Returns
    -------
    DataFrame
        Per session: `rows`; `correct`, `correct_prior` (most frequent training class); `called_…`, `actual_…`,
        `hit_…` per class; `log_loss_…`, `brier_…` of model, volatility alone and prior; `square`, `square_prior`,
        `absolute` errors of the forecast; `clark_west` terms; `surprise_…` and `expected_…` hits of BUY calls,
        `matched` in volatility and `selected` within the session.

    Raises
    ------
    NoRowsError
        If no row was judged, or one lacks its outcome, forecast, probabilities or call.
    """
    # The sum of nulls is 0, which would count as no error and no hit.
    require_rows(judged, "figures need judged rows", _NEEDED)
    # Ties are decided by symbol, so that the order of the rows does not matter.
    judged = judged.sort(PANEL_KEY)
    label, call = pl.col("label").cast(pl.String), pl.col("call").cast(pl.String)
    terms = clark_west_terms(
        *(judged[name].to_numpy() for name in ("forward_return", forecasts.MODEL, forecasts.PRIOR))
    )
    columns = {
        "correct": label == call,
        "correct_prior": label == classification.most_probable(classification.PRIOR),
        **{f"called_{name}": call == name for name in CLASS_NAMES},
        **{f"actual_{name}": label == name for name in CLASS_NAMES},
        **{f"hit_{name}": (label == name) & (call == name) for name in CLASS_NAMES},
        **{f"log_loss_{who}": row_log_loss(prefix) for who, prefix in FORECASTERS.items()},
        **{f"brier_{who}": row_brier_score(prefix) for who, prefix in FORECASTERS.items()},
        "square": forecasts.row_error() ** 2,
        "square_prior": forecasts.row_error(forecasts.PRIOR) ** 2,
        "absolute": forecasts.row_error().abs(),
    }
    rows = judged.select(*PANEL_KEY, **columns, clark_west=pl.Series(terms))
    sums = rows.join(_surprises(judged), on=PANEL_KEY, how="left").group_by("session")
    # The sum of nulls would be 0: without a volatility model its loss is null.
    volatile = [name for name in rows.columns if name.endswith("_volatility")]
    return sums.agg(
        pl.exclude(*PANEL_KEY, *volatile).cast(pl.Float64).sum(),
        *(pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).otherwise(None) for name in volatile),
        rows=pl.len().cast(pl.Float64),
    ).sort("session")


def _surprises(judged: pl.DataFrame) -> pl.DataFrame:
    """Per row: BUY hits beyond those expected at its volatility, and within its session.

    A surprise is (y - base rate) x (call - share called) of the row's group; its sum is that of y - base rate over
    the calls. Base rates come from the same rows, so that a rising month raises both sides.
    """
    called, bought = (pl.col("call") == "BUY").cast(pl.Float64), (pl.col("label") == "BUY").cast(pl.Float64)
    rows, compared = judged.with_columns(called=called, bought=bought), [*PANEL_KEY, "called", "bought"]
    matched = volatility_deciles(rows).select(*compared, "decile").pipe(_beyond, ["decile"], "matched")
    chosen = volatility_groups(rows).select(*compared, "group")
    return matched.join(
        chosen.pipe(_beyond, ["session", "group"], "selected"), on=PANEL_KEY, how="full", coalesce=True
    )


def _beyond(rows: pl.DataFrame, group: list[str], name: str) -> pl.DataFrame:
    base_rate, share = (pl.col(column).mean().over(group) for column in ("bought", "called"))
    return rows.select(
        *PANEL_KEY,
        ((pl.col("bought") - base_rate) * (pl.col("called") - share)).alias(f"surprise_{name}"),
        (pl.col("called") * base_rate).alias(f"expected_{name}"),
    )
