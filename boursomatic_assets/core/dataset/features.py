"""The eight features of the `features` table, and the model inputs.

A new feature is one entry of `FEATURES`; table column, model input, checks, documentation and column lineage derive
from it. A feature in units of price is no model input: `DERIVED_INPUTS` replace it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY, require_panel
from boursomatic_assets.errors import NotEnoughHistoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

WILDER_COM = 13
WILDER_MIN_SESSIONS = 14
MONTH = 20


@dataclass(frozen=True)
class Feature:
    """A named expression over the bars of one instrument in time order, evaluated `.over("symbol")`.

    Features in units of price are for readers of the table, stops and targets; models do not read them.
    """

    name: str
    expression: pl.Expr
    lookback: int  # sessions before the current one that a first value needs
    doc: str  # one sentence for the UI
    may_be_null: bool = False  # whether a ratio can be undefined after the lookback too
    in_price_units: bool = False  # whether it scales with prices

    @property
    def sources(self) -> list[str]:
        """Columns of `price_bars` that the expression reads."""
        return sorted(set(self.expression.meta.root_names()))


_close, _high, _low, _volume = (pl.col(name) for name in ("close", "high", "low", "volume"))
_previous_close = _close.shift(1)


def _simple_return(sessions: int) -> pl.Expr:
    return _close / _close.shift(sessions) - 1


def _wilder_mean(values: pl.Expr) -> pl.Expr:
    """Bias-corrected exponential mean, as pandas `ewm(com=13, adjust=True, min_periods=14).mean()`."""
    return values.ewm_mean(com=WILDER_COM, adjust=True, min_samples=WILDER_MIN_SESSIONS)


def _relative_strength_index() -> pl.Expr:
    change = _close.diff().fill_null(0.0)
    gain = _wilder_mean(change.clip(lower_bound=0.0))
    loss = _wilder_mean((-change).clip(lower_bound=0.0))
    # 0 / 0, of a price that never moved, becomes null; gain / 0 is infinite and gives 100.
    return (100 - 100 / (1 + gain / loss)).fill_nan(None)


def _average_true_range() -> pl.Expr:
    # max_horizontal skips nulls: the first bar, without a previous close, has high - low.
    gaps = (_high - _low, (_high - _previous_close).abs(), (_low - _previous_close).abs())
    return _wilder_mean(pl.max_horizontal(*gaps))


def _volume_zscore() -> pl.Expr:
    score = (_volume - _volume.rolling_mean(MONTH)) / _volume.rolling_std(MONTH, ddof=1)
    # Equal extremes mean exactly no deviation, where a running variance may leave rounding errors.
    moves = _volume.rolling_max(MONTH) > _volume.rolling_min(MONTH)
    return pl.when(moves).then(score)


FEATURES: tuple[Feature, ...] = (
    Feature("ret_1d", _simple_return(1), 1, "Simple return over 1 session, a fraction."),
    Feature("ret_5d", _simple_return(5), 5, "Simple return over 5 sessions, a fraction."),
    Feature("ret_20d", _simple_return(MONTH), MONTH, "Simple return over 20 sessions, a fraction."),
    Feature(
        "rsi_14",
        _relative_strength_index(),
        WILDER_MIN_SESSIONS - 1,
        "Relative strength index over 14 sessions, 0 to 100; null for a price that never moved.",
        may_be_null=True,
    ),
    Feature("momentum_5d", _simple_return(5), 5, "The values of ret_5d, kept for readers of the table."),
    Feature(
        "vol_20d",
        _simple_return(1).rolling_std(MONTH, ddof=1),
        MONTH,
        "Sample standard deviation of the last 20 one-session returns, a fraction per session.",
    ),
    Feature(
        "atr_14",
        _average_true_range(),
        WILDER_MIN_SESSIONS - 1,
        "Average true range over 14 sessions, in price units.",
        in_price_units=True,
    ),
    Feature(
        "volume_zscore",
        _volume_zscore(),
        MONTH - 1,
        "Volume's distance from its 20-session mean, in standard deviations; null without deviation.",
        may_be_null=True,
    ),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
LOOKBACK_SESSIONS = max(feature.lookback for feature in FEATURES)
CLOSE = "close"


@dataclass(frozen=True)
class DerivedInput:
    """A model input computed from features of the table and the close of the same row; `replaces` a feature."""

    name: str
    expression: pl.Expr
    replaces: str
    doc: str

    @property
    def sources(self) -> list[str]:
        """Features of the table that the expression reads, in the table's order."""
        read = set(self.expression.meta.root_names())
        return [name for name in FEATURE_NAMES if name in read]

    @property
    def lookback(self) -> int:
        """Sessions before the current one that a first value needs."""
        return max(feature.lookback for feature in FEATURES if feature.name in self.sources)

    @property
    def may_be_null(self) -> bool:
        """Whether a null can occur after the lookback."""
        return any(feature.may_be_null for feature in FEATURES if feature.name in self.sources)


# Back-adjusted prices are divided by every later split and dividend, so that their past level knows the future.
DERIVED_INPUTS: tuple[DerivedInput, ...] = (
    DerivedInput(
        "natr_14",
        pl.col("atr_14") / pl.col(CLOSE),
        "atr_14",
        "Average true range over 14 sessions, a fraction of the close.",
    ),
)
# Valid model inputs of an experiment. Stored versions may read features in units of price, new ones may not.
INPUT_NAMES: tuple[str, ...] = (*FEATURE_NAMES, *(derived.name for derived in DERIVED_INPUTS))
_REPLACEMENTS = {derived.replaces: derived.name for derived in DERIVED_INPUTS}
DEFAULT_INPUTS: tuple[str, ...] = tuple(_REPLACEMENTS.get(name, name) for name in FEATURE_NAMES)


def compute_features(bars: pl.DataFrame) -> pl.DataFrame:
    """Compute every feature of `FEATURES` for every bar of a bar panel, as Float64; null where undefined.

    Raises PanelContractError if `bars` is not a panel.
    """
    require_panel(bars, ["high", "low", "close", "volume"])
    columns = (feature.expression.over("symbol").alias(feature.name) for feature in FEATURES)
    return bars.select(*PANEL_KEY, *columns)


def derived_among(names: Sequence[str]) -> list[DerivedInput]:
    """The named inputs that are not in the table."""
    return [derived for derived in DERIVED_INPUTS if derived.name in names]


def table_columns(names: Sequence[str]) -> list[str]:
    """Columns of the `features` table that the named inputs are or are derived from, without duplicates.

    >>> table_columns(["ret_1d", "natr_14", "vol_20d"])
    ['ret_1d', 'atr_14', 'vol_20d']
    """
    sources = {derived.name: derived.sources for derived in DERIVED_INPUTS}
    return list(dict.fromkeys(column for name in names for column in sources.get(name, [name])))


def with_derived_inputs(panel: pl.DataFrame, names: Sequence[str] = INPUT_NAMES) -> pl.DataFrame:
    """Add the named inputs that are not in the table; the panel needs their `table_columns` and `close`."""
    return panel.with_columns(derived.expression.alias(derived.name) for derived in derived_among(names))


def price_level_inputs(names: Sequence[str]) -> list[str]:
    """The named inputs that are features in units of price, in the order given."""
    levels = {feature.name for feature in FEATURES if feature.in_price_units}
    return [name for name in names if name in levels]


def replacement_of(name: str) -> str | None:
    """The input that models read in place of a feature in units of price; None without one."""
    return _REPLACEMENTS.get(name)


def is_warmed_up(names: Sequence[str] = FEATURE_NAMES) -> pl.Expr:
    """Whether a row has all the history that the named inputs need.

    A value proves its history. An input that may be null proves nothing while null, so it counts only where no
    other named input proves as long a history.
    """
    inputs: tuple[Feature | DerivedInput, ...] = (*FEATURES, *DERIVED_INPUTS)
    named = [feature for feature in inputs if feature.name in names]
    proven = max((feature.lookback for feature in named if not feature.may_be_null), default=0)
    required = [feature.name for feature in named if not feature.may_be_null or feature.lookback > proven]
    return pl.all_horizontal(pl.lit(value=True), *(pl.col(name).is_not_null() for name in required))


def require_history(spans: pl.DataFrame) -> None:
    """Stop when no instrument has more sessions than the longest lookback.

    `spans` has `symbol`, number of `rows`, `first` and `last` session of each instrument's bars. Raises
    NotEnoughHistoryError, naming the longest history.
    """
    longest = spans.sort("rows", "symbol", descending=[True, False]).head(1)
    if longest.height and longest["rows"].item() > LOOKBACK_SESSIONS:
        return
    found = "there are no bars"
    if longest.height:
        row = longest.row(0, named=True)
        found = f"the longest, {row['symbol']!r}, has {row['rows']} ({row['first']}..{row['last']})"
    message = (
        f"features need at least {LOOKBACK_SESSIONS + 1} sessions of one symbol; {found}.\n"
        "Ingest more history: boursomatic materialize --select price_bars"
    )
    raise NotEnoughHistoryError(message)
