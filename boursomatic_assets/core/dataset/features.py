"""The eight features of the `features` table, and what models read of them.

A new feature is one more entry of `FEATURES`: table column, model input, checks, documentation and column
lineage derive from it. A feature in units of price is no model input: `DERIVED_INPUTS` holds what takes its place.
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
    """A named expression over one instrument's bars in time order.

    Attributes
    ----------
    name : str
        Column of the `features` table and input of the models.
    expression : Expr
        Over the columns of a bar panel; evaluated `.over("symbol")`.
    lookback : int
        Sessions before the current one that a first value needs.
    doc : str
        One sentence for people; shown in the UI.
    may_be_null : bool
        Whether a null can occur after the lookback (an undefined ratio), rather than only before it.
    in_price_units : bool
        Whether it is multiplied by a constant when all prices are. Then it is for readers of the table, stops and
        targets; models do not read it.
    """

    name: str
    expression: pl.Expr
    lookback: int
    doc: str
    may_be_null: bool = False
    in_price_units: bool = False

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
    # 0 / 0 is an instrument that never moved: undefined, hence null; gain / 0 is infinite, hence 100.
    return (100 - 100 / (1 + gain / loss)).fill_nan(None)


def _average_true_range() -> pl.Expr:
    # max_horizontal skips nulls, so that the first bar, without a previous close, is left with high - low.
    gaps = (_high - _low, (_high - _previous_close).abs(), (_low - _previous_close).abs())
    return _wilder_mean(pl.max_horizontal(*gaps))


def _volume_zscore() -> pl.Expr:
    score = (_volume - _volume.rolling_mean(MONTH)) / _volume.rolling_std(MONTH, ddof=1)
    # Equal extremes say "no deviation" exactly; a running variance may leave a residue of rounding.
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
    """A model input that is computed from features of the table and the close of the same row.

    Attributes
    ----------
    name : str
        Column of labels, sets and evidence; not of the table.
    expression : Expr
        Over features and `close` of one row.
    replaces : str
        The feature in whose place models read it.
    doc : str
        One sentence for people; shown in the UI.
    """

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


# Back-adjusted prices are divided by every later split and dividend: their level at a past date knows the future.
DERIVED_INPUTS: tuple[DerivedInput, ...] = (
    DerivedInput(
        "natr_14",
        pl.col("atr_14") / pl.col(CLOSE),
        "atr_14",
        "Average true range over 14 sessions, a fraction of the close.",
    ),
)
# What an experiment may name as a model input. Stored versions may read features in units of price, new ones not.
INPUT_NAMES: tuple[str, ...] = (*FEATURE_NAMES, *(derived.name for derived in DERIVED_INPUTS))
_REPLACEMENTS = {derived.replaces: derived.name for derived in DERIVED_INPUTS}
DEFAULT_INPUTS: tuple[str, ...] = tuple(_REPLACEMENTS.get(name, name) for name in FEATURE_NAMES)


def compute_features(bars: pl.DataFrame) -> pl.DataFrame:
    """Compute every feature of `FEATURES` for every bar.

    Parameters
    ----------
    bars : DataFrame
        Bar panel, sorted by symbol and session, unique on them.

    Returns
    -------
    DataFrame
        `symbol`, `session` and one Float64 column per feature, a row per bar; null where undefined.

    Raises
    ------
    PanelContractError
        If `bars` is not a panel.
    """
    require_panel(bars, ["high", "low", "close", "volume"])
    columns = (feature.expression.over("symbol").alias(feature.name) for feature in FEATURES)
    return bars.select(*PANEL_KEY, *columns)


def derived_among(names: Sequence[str]) -> list[DerivedInput]:
    """The named inputs that are not in the table."""
    return [derived for derived in DERIVED_INPUTS if derived.name in names]


def table_columns(names: Sequence[str]) -> list[str]:
    """Columns of the `features` table that the named inputs are, or are derived from; each once.

    Examples
    --------
    >>> table_columns(["ret_1d", "natr_14", "vol_20d"])
    ['ret_1d', 'atr_14', 'vol_20d']
    """
    sources = {derived.name: derived.sources for derived in DERIVED_INPUTS}
    return list(dict.fromkeys(column for name in names for column in sources.get(name, [name])))


def with_derived_inputs(panel: pl.DataFrame, names: Sequence[str] = INPUT_NAMES) -> pl.DataFrame:
    """Add the named inputs that are not in the table.

    Parameters
    ----------
    panel : DataFrame
        With `close` and the features that `table_columns` names; only where a name is derived.
    names : sequence of str
        Model inputs; those of the table are left as they are.

    Returns
    -------
    DataFrame
        The panel with a Float64 column for each derived input; null where a source or the close is null.
    """
    return panel.with_columns(derived.expression.alias(derived.name) for derived in derived_among(names))


def price_level_inputs(names: Sequence[str]) -> list[str]:
    """The named inputs that are features in units of price, in the order given."""
    levels = {feature.name for feature in FEATURES if feature.in_price_units}
    return [name for name in names if name in levels]


def replacement_of(name: str) -> str | None:
    """The input that models read in place of a feature in units of price; None where there is none."""
    return _REPLACEMENTS.get(name)


def is_warmed_up(names: Sequence[str] = FEATURE_NAMES) -> pl.Expr:
    """Whether a row has all the history behind it that the named inputs need.

    An input that may be null at any time vouches only for history that no other named input vouches for.
    """
    inputs: tuple[Feature | DerivedInput, ...] = (*FEATURES, *DERIVED_INPUTS)
    named = [feature for feature in inputs if feature.name in names]
    vouched = max((feature.lookback for feature in named if not feature.may_be_null), default=0)
    firm = [feature.name for feature in named if not feature.may_be_null or feature.lookback > vouched]
    return pl.all_horizontal(pl.lit(value=True), *(pl.col(name).is_not_null() for name in firm))


def require_history(spans: pl.DataFrame) -> None:
    """Stop when nothing has enough history for features.

    Parameters
    ----------
    spans : DataFrame
        `symbol`, number of `rows`, `first` and `last` session of each instrument's bars.

    Raises
    ------
    NotEnoughHistoryError
        If no instrument has more sessions than the longest lookback.
    """
    longest = spans.sort("rows", "symbol", descending=[True, False]).head(1)
    if longest.height and longest["rows"].item() > LOOKBACK_SESSIONS:
        return
    needed = f"features need at least {LOOKBACK_SESSIONS + 1} sessions of one symbol"
    found = "there are no bars"
    if longest.height:
        row = longest.row(0, named=True)
        found = f"the longest, {row['symbol']!r}, has {row['rows']} ({row['first']}..{row['last']})"
    message = f"{needed}; {found}.\nIngest more history: boursomatic materialize --select price_bars"
    raise NotEnoughHistoryError(message)
