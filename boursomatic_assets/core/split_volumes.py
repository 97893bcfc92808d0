"""Volumes of unadjusted bars on the scale of the adjusted prices: shares before a split count as those after it."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.market_data import PANEL_KEY, require_panel

# Shares after a split for one before: 2, 3, ... and 3 for 2, 4 for 3, 5 for 4 and the like; or the inverse.
LARGEST_TERM = 4
SMALLEST_SPLIT = 1.2
# Adjusted closes are rounded to a few digits: two ratios of them are one to this share.
NEAR = 0.005
# On the day of a split the price moves as on any other: by less than this share, beside the split itself.
LARGEST_MOVE = 0.4


def with_split_volumes(bars: pl.DataFrame) -> pl.DataFrame:
    """Scale the volumes before each split that the raw close and the factor `adj_close / close` show together.

    Parameters
    ----------
    bars : DataFrame
        `symbol`, `session`, raw `close` and `volume`, and `adj_close`, in any order.

    Returns
    -------
    DataFrame
        The rows in their order. Volumes before a split of n for one are multiplied by n, as an entry of 1/n in the
        table `adjustments` would do it. Where only the factor steps, or only the price, they stay.

    Notes
    -----
    Between two bars of a symbol the factor rises by n at a split of n for one, and the raw close falls by about as
    much. A dividend moves both too: its ratio is no simple fraction of 1.2 or more.
    """
    require = ["close", "volume", "adj_close"]
    in_time = bars.with_row_index("_row").sort([*PANEL_KEY, "_row"])
    require_panel(in_time.head(0), require)
    usable = in_time.filter((pl.col("close") > 0) & (pl.col("adj_close") > 0)).drop_nulls(PANEL_KEY)
    factor = pl.col("adj_close") / pl.col("close")
    steps = usable.select(
        *PANEL_KEY,
        step=(factor / factor.shift()).over("symbol"),
        move=(pl.col("adj_close") / pl.col("adj_close").shift()).over("symbol"),
    ).drop_nulls()
    large = steps.filter(
        (pl.col("step") >= SMALLEST_SPLIT * (1 - NEAR)) | (pl.col("step") <= (1 + NEAR) / SMALLEST_SPLIT)
    )
    splits = (
        large.with_columns(ratio=_simple_ratio(pl.col("step")))
        .filter(
            ((pl.col("step") / pl.col("ratio") - 1).abs() <= NEAR) & ((pl.col("move") - 1).abs() <= LARGEST_MOVE)
        )
        .sort(PANEL_KEY)
        .with_columns(shares=pl.col("ratio").cum_prod(reverse=True).over("symbol"))
    )
    if splits.is_empty():
        return bars
    scaled = in_time.join_asof(
        splits.select(*PANEL_KEY, "shares").sort("session"),
        on="session",
        by="symbol",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    shares = pl.col("shares").fill_null(1.0)
    return scaled.sort("_row").with_columns(volume=pl.col("volume") * shares).select(bars.columns)


def _simple_ratio(step: pl.Expr) -> pl.Expr:
    """Nearest fraction with a small term: 2, 10, 3/2, 5/4 or their inverses."""
    upward = pl.when(step >= 1).then(step).otherwise(1 / step)
    nearest = [(upward * term).round() / term for term in range(1, LARGEST_TERM + 1)]
    errors = [(upward / ratio - 1).abs() for ratio in nearest]
    best = nearest[-1]
    for ratio, error in list(zip(nearest, errors, strict=True))[-2::-1]:
        best = pl.when(error <= NEAR).then(ratio).otherwise(best)
    return pl.when(step >= 1).then(best).otherwise(1 / best)
