"""Scale bars by their adjusted close, and find adjusted closes that must be wrong."""

from __future__ import annotations

import math

import polars as pl

BAD_FACTOR = "negative or absurd adjusted close"
MOVES_APART = "adjusted close that moves apart from the close"

# A larger log step of the factor must come with a step of the raw close; rounding to cents moves it by less.
STEP = math.log(1.3)
# Factors on both sides of a wrong one agree to a twentieth, or to a quarter of its error.
AGREE, AGREE_SHARE = math.log(1.05), 0.25
# Sessions for which a wrong factor may last.
LONGEST = 3

# A factor stays, but for splits and dividends: it moves by more than this and by rounding to cents on few days.
STILL, CENT, MOST_MOVES, FEWEST_ROWS = 0.002, 0.01, 1 / 3, 20

# A step of the factor is a split where it is at least this large, a ratio of few shares to this precision, and
# undone by the raw close to a half.
SMALLEST_SPLIT, EXACT, UNDONE = math.log(1.2), 0.003, 0.5
FEW_SHARES = (1, 2, 3, 4)
# A dividend of the same day raises the factor's step beyond that of a split this large by at most this.
LARGE_SPLIT, DIVIDEND = math.log(1.45), 0.015
# Sessions on each side of a split that show whether the volume stepped with it.
VOLUME_SESSIONS = 20

_PRICES = ("open", "high", "low", "close")
_KEY = ["symbol", "session"]


def scale_to_adjusted(bars: pl.DataFrame) -> pl.DataFrame:
    """Scale each bar by the factor `adj_close / close`, so that returns include splits and dividends.

    Parameters
    ----------
    bars : DataFrame
        With `symbol`, `session`, four prices, `volume` and `adj_close`.

    Returns
    -------
    DataFrame
        Without `adj_close`. A bar with a negative or absurd factor is not scaled; a column `objection`, which
        exists only then, says so to `check_bars`. A missing factor gives missing prices. A bar with a close that is
        not positive is not scaled, so that no factor can make it valid.

    Notes
    -----
    A factor is judged by its step against the sessions around it, not by its level: a later reverse split, beyond
    the bars, raises all factors. A factor is absurd if the raw close does not undo its step of more than 30 % and
    it returns within three sessions, or is the first or last and has left 1. So is a stretch of raised factors that
    ends at negative ones and is lower after them. A step that stays is left to the search for jumps.

    If the factor moves on more than a third of a symbol's days, the adjusted close belongs to another symbol, day
    or currency: none of its bars is scaled, and `objection` says so.

    Where factor and raw close step together by a split, volume before it is scaled inversely, if the volumes step
    there at all: some sources take splits out of the volume and not out of the close.
    """
    close, adjusted = pl.col("close"), pl.col("adj_close")
    in_time = bars.with_row_index("_row").sort([*_KEY, "_row"])
    known_prices = (close > 0) & (adjusted > 0) & adjusted.is_finite() & close.is_finite()
    usable = known_prices & pl.col("symbol").is_not_null()
    # Rows with an impossible factor divide the others into stretches.
    stretch = ((close > 0) & (adjusted <= 0)).fill_null(value=False).cum_sum()
    known = (
        in_time.with_columns(_stretch=stretch)
        .filter(usable)
        .select("_row", "symbol", "volume", "_stretch", level=(adjusted / close).log(), price=close.log())
    )
    known = known.with_columns(_absurd=_absurd(), _falls=_falls_behind_a_stretch())
    apart = _moving_apart(known)
    known = known.with_columns(pl.col("_absurd") | pl.col("_falls").any().over("symbol", "_stretch"))
    split = _volume_factors(known.filter(~pl.col("_absurd")))
    factor = pl.when(close > 0).then(adjusted / close).otherwise(1.0)
    judged = (
        in_time.with_columns(_factor=factor)
        .join(known.select("_row", "_absurd"), on="_row", how="left", maintain_order="left")
        .join(split, on="_row", how="left", maintain_order="left")
        .with_columns(
            _absurd=(pl.col("_absurd").fill_null(value=False) | (pl.col("_factor") <= 0)).fill_null(value=False)
        )
        .with_columns(_shares=pl.col("_shares").backward_fill().over("symbol").fill_null(1.0))
        .sort("_row")
    )
    # The close too is multiplied, not replaced by adj_close: one rounded factor keeps the order of a bar's prices.
    scale = pl.when("_absurd").then(1.0).otherwise(pl.col("_factor"))
    judged = judged.with_columns(_apart=pl.col("symbol").is_in(apart.implode()).fill_null(value=False))
    judged = judged.with_columns(pl.col("_absurd") | pl.col("_apart"))
    scaled = judged.with_columns(
        *(pl.col(name) * scale for name in _PRICES),
        volume=pl.when("_absurd").then("volume").otherwise(pl.col("volume") * pl.col("_shares")),
    )
    if scaled["_absurd"].any():
        reason = pl.when("_apart").then(pl.lit(MOVES_APART)).when("_absurd").then(pl.lit(BAD_FACTOR))
        scaled = scaled.with_columns(objection=reason)
    return scaled.drop("adj_close", "_row", "_factor", "_absurd", "_apart", "_shares")


def _moving_apart(known: pl.DataFrame) -> pl.Series:
    """Symbols with a factor that moves on many days."""
    close, adjusted = pl.col("price").exp(), (pl.col("price") + pl.col("level")).exp()
    rounding = STILL + CENT / close + CENT / adjusted
    moves = (pl.col("level") - pl.col("level").shift(1)).abs() > rounding
    shares = known.group_by("symbol").agg(moves=moves.mean(), rows=pl.len())
    return shares.filter((pl.col("rows") >= FEWEST_ROWS) & (pl.col("moves") > MOST_MOVES))["symbol"]


def _absurd() -> pl.Expr:
    """Whether a factor is absurd, among rows of one symbol in time."""
    level, price = pl.col("level"), pl.col("price")

    def off(other: int) -> pl.Expr:
        return (level - level.shift(other)).over("symbol")

    def worse(other: int) -> pl.Expr:
        # The factor should explain the raw move, but the adjusted close moves further.
        raw = (price - price.shift(other)).over("symbol")
        return (off(other) + raw).abs() > raw.abs()

    came_back = [
        (off(before).abs() >= STEP)
        & (off(-after).abs() >= STEP)
        & ((off(before) - off(-after)).abs() <= pl.max_horizontal(AGREE, AGREE_SHARE * off(before).abs()))
        & worse(before)
        for length in range(1, LONGEST + 1)
        for before in range(1, length + 1)
        for after in [length + 1 - before]
    ]
    alone = (off(1).is_null() & (off(-1) >= STEP) & (level >= STEP) & worse(-1)) | (
        off(-1).is_null() & (off(1).abs() >= STEP) & (level.abs() > (level - off(1)).abs()) & worse(1)
    )
    return pl.any_horizontal(alone, *came_back).fill_null(value=False)


def _falls_behind_a_stretch() -> pl.Expr:
    """Whether a row ends a stretch of raised factors before impossible ones, and no raw step brings them down."""
    ends = (pl.col("_stretch").shift(-1) != pl.col("_stretch")).over("symbol")
    level, price = pl.col("level"), pl.col("price")
    down = (level - level.shift(-1)).over("symbol")
    raw = (price - price.shift(-1)).over("symbol")
    fallen = ends & (level >= STEP) & (down >= STEP) & ((down + raw).abs() > raw.abs())
    return fallen.fill_null(value=False)


def _volume_factors(known: pl.DataFrame) -> pl.DataFrame:
    """`_row` and the `_shares` to multiply its volume by; no rows where nothing is to be scaled."""
    step = (pl.col("level") - pl.col("level").shift(1)).over("symbol")
    raw = (pl.col("price") - pl.col("price").shift(1)).over("symbol")
    nearest = _nearest_split(step)
    is_split = (
        (step.abs() >= SMALLEST_SPLIT)
        & ((step - nearest) >= -EXACT)
        & ((step - nearest) <= pl.when(nearest.abs() >= LARGE_SPLIT).then(DIVIDEND).otherwise(EXACT))
        & ((step + raw).abs() <= UNDONE * step.abs())
    )
    splits = known.with_columns(_step=pl.when(is_split).then(nearest).otherwise(0.0).fill_null(0.0))
    splits = splits.filter((pl.col("_step") != 0).any().over("symbol"))
    if splits.is_empty() or not _volume_steps(splits):
        return pl.DataFrame(schema={"_row": known.schema["_row"], "_shares": pl.Float64})
    later = pl.col("_step").cum_sum(reverse=True).over("symbol") - pl.col("_step")
    return splits.select("_row", _shares=later.exp())


def _volume_steps(splits: pl.DataFrame) -> bool:
    """Whether, over all splits together, the volumes step by more than half of what raw volumes would."""
    volume = pl.col("volume")
    before = volume.rolling_median(VOLUME_SESSIONS, min_samples=1).shift(1).over("symbol")
    after = volume.reverse().rolling_median(VOLUME_SESSIONS, min_samples=1).reverse().over("symbol")
    sides = splits.with_columns(before=before, after=after).filter(
        (pl.col("_step") != 0) & (pl.col("before") > 0) & (pl.col("after") > 0)
    )
    stepped = sides.select(((pl.col("after") / pl.col("before")).log() * pl.col("_step").sign()).sum()).item()
    return bool(stepped > sides["_step"].abs().sum() / 2)


def _nearest_split(step: pl.Expr) -> pl.Expr:
    """Log of the ratio of few shares that is nearest to a log step."""
    shares = step.abs().exp()
    choices = [(shares * few).round() / few for few in FEW_SHARES]
    best = choices[-1]
    for choice in reversed(choices[:-1]):
        best = pl.when((choice - shares).abs() <= (best - shares).abs()).then(choice).otherwise(best)
    return best.log() * step.sign()
