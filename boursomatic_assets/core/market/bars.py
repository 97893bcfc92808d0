"""Price bars: the contract that they keep, and the rejection of bars that break it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.printed import told_apart
from boursomatic_assets.errors import BarContractError, NoRowsError, PanelContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

PRICE_COLUMNS = ("open", "high", "low", "close")
BAR_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    **dict.fromkeys((*PRICE_COLUMNS, "volume"), pl.Float64()),
}
PANEL_KEY = ["symbol", "session"]
INSTRUMENT_SCHEMA: dict[str, pl.DataType] = dict.fromkeys(
    ("symbol", "exchange", "name", "sector", "market_cap_bucket", "pe_bucket", "currency"), pl.String()
)

# Prices that differ by a smaller share differ by rounding.
ROUNDING = 1e-9
# Limit of the table of instruments.
LONGEST_SYMBOL = 50
# Epochs of programs, which stand for a missing date. No exchange was open on a New Year's Day.
PLACEHOLDERS = (date(1900, 1, 1), date(1970, 1, 1))
FIRST_DATE = date(1900, 1, 1)
# Reasons of bars that keep the contract, and are set aside for what lies around them.
ISOLATED = "isolated price: far from the sessions before and after"
NO_TRADE = "price without a trade, far from the last one"
# Share of all rows above which such bars count too: then the others cannot be trusted.
MOST_SET_ASIDE = 0.25
EXAMPLES_IN_A_MESSAGE = 5
EXAMPLES_KEPT = 20
_TOO_LONG = "symbol of {} letters"
_TEXT_OF_A_CELL = r"^(not a number|not a date|no daily bar|a moment, [^:]*): .*$"


@dataclass(frozen=True)
class CheckedBars:
    """Bars split by the bar contract.

    `accepted` is a panel of `BAR_SCHEMA`, sorted by symbol and session and unique on them. `rejected` has all other
    rows as they came, with their `reason`.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def rejected_share(self) -> float:
        """Share of all rows that were rejected, as a fraction; 0.0 for no rows."""
        return BarTally().plus(self).rejected_share

    def reasons(self) -> dict[str, int]:
        """Rejected rows by reason, the most frequent first; reasons that quote a text count together."""
        kinds = pl.col("reason").str.replace(_TEXT_OF_A_CELL, "$1")
        counts = self.rejected.group_by(kinds).len().sort(["len", "reason"], descending=[True, False])
        return dict(counts.iter_rows())


@dataclass(frozen=True)
class BarTally:
    """Counts of accepted and rejected rows of a source, which may come in pieces.

    `reasons` counts rejected rows, `examples` has the first of them with their reason, `symbols` those of accepted
    rows.
    """

    accepted: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: pl.DataFrame = field(default_factory=pl.DataFrame)
    symbols: frozenset[str] = frozenset()

    def plus(self, bars: CheckedBars) -> BarTally:
        """Add a piece."""
        reasons = Counter(self.reasons) + Counter(bars.reasons())
        room = EXAMPLES_KEPT - self.examples.height
        kept = [frame for frame in (self.examples, bars.rejected.head(max(room, 0))) if frame.height]
        return BarTally(
            accepted=self.accepted + bars.accepted.height,
            rejected=self.rejected + bars.rejected.height,
            reasons=dict(sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))),
            examples=pl.concat(kept) if kept else self.examples,
            symbols=self.symbols.union(bars.accepted["symbol"].unique()),
        )

    @property
    def rejected_share(self) -> float:
        """Share of all rows that were rejected, as a fraction; 0.0 for no rows."""
        total = self.accepted + self.rejected
        return self.rejected / total if total else 0.0

    @property
    def broken(self) -> int:
        """Number of rows that break the bar contract; with bars that are set aside, if those are many."""
        set_aside = sum(self.reasons.get(reason, 0) for reason in (ISOLATED, NO_TRADE))
        many = set_aside > MOST_SET_ASIDE * (self.accepted + self.rejected)
        return self.rejected if many else self.rejected - set_aside

    @property
    def broken_share(self) -> float:
        """Share of all rows that are broken, as a fraction; 0.0 for no rows."""
        total = self.accepted + self.rejected
        return self.broken / total if total else 0.0


def check_bars(bars: pl.DataFrame, today: date) -> CheckedBars:
    """Set aside the rows that break the bar contract, each with the first reason that applies.

    Parameters
    ----------
    bars : DataFrame
        Columns of `BAR_SCHEMA`, in any row order. Optional columns: `unread`, text that could not be read, whose
        reason comes first; `objection`, the source's own reason, which comes last.
    today : date
        The newest possible session.

    Returns
    -------
    CheckedBars
        Every row is in one of its frames. A high or low that misses another price of its bar by rounding (1e-9) is
        set to that price; nothing else is repaired. Of identical copies one is accepted, of differing copies none.
    """
    _require_columns(bars, list(BAR_SCHEMA))
    optional = {
        name: pl.col(name) if name in bars.columns else pl.lit(None, pl.String) for name in ("unread", "objection")
    }
    typed = bars.select(*(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items()), **optional)
    judged = (
        typed.with_columns(came_high="high", came_low="low", **_without_rounding())
        .with_columns(reason=pl.coalesce("unread", _first_broken_rule(today), "objection"))
        .with_columns(
            pl.when(pl.col("reason").is_null()).then(name).otherwise(f"came_{name}").alias(name)
            for name in ("high", "low")
        )
        .drop("unread", "objection", "came_high", "came_low")
    )
    sound = judged.filter(pl.col("reason").is_null())
    repeated = pl.struct(PANEL_KEY).is_duplicated()
    copies = sound.filter(repeated).with_columns(reason=_duplicate_reason())
    unique = [sound.filter(~repeated), copies.filter(pl.col("reason").is_null())]
    broken = [judged.filter(pl.col("reason").is_not_null()), copies.filter(pl.col("reason").is_not_null())]
    return CheckedBars(
        accepted=pl.concat(unique).drop("reason").sort(PANEL_KEY),
        rejected=pl.concat(broken).sort([*PANEL_KEY, "reason"], maintain_order=True),
    )


def _without_rounding() -> dict[str, pl.Expr]:
    """High and low, set to another price of the bar that they miss by rounding."""
    highest, lowest = pl.max_horizontal(PRICE_COLUMNS), pl.min_horizontal(PRICE_COLUMNS)
    high, low = pl.col("high"), pl.col("low")
    return {
        "high": pl.when((high < highest) & (high >= highest * (1 - ROUNDING))).then(highest).otherwise(high),
        "low": pl.when((low > lowest) & (low <= lowest * (1 + ROUNDING))).then(lowest).otherwise(low),
    }


def _duplicate_reason() -> pl.Expr:
    differ = pl.struct(*PRICE_COLUMNS, "volume").n_unique().over(PANEL_KEY) > 1
    later_copy = pl.int_range(pl.len()).over(PANEL_KEY) > 0
    return (
        pl.when(differ)
        .then(pl.lit("conflicting duplicate of a symbol and session"))
        .when(later_copy)
        .then(pl.lit("duplicate of a symbol and session"))
    )


def _first_broken_rule(today: date) -> pl.Expr:
    prices = [pl.col(name) for name in PRICE_COLUMNS]
    measures = [*prices, pl.col("volume")]
    o, h, l, c = prices  # noqa: E741 (the field's own letters)
    length = pl.col("symbol").str.len_chars()
    rules: dict[str, pl.Expr] = {
        "null symbol or session": pl.col("symbol").is_null() | pl.col("session").is_null(),
        _TOO_LONG: length > LONGEST_SYMBOL,
        "control character in the symbol": pl.col("symbol").str.contains(r"[\x00-\x1f\x7f]"),
        "date before 1900 or a placeholder": (pl.col("session") < FIRST_DATE)
        | pl.col("session").is_in(PLACEHOLDERS),
        "null price or volume": pl.any_horizontal(x.is_null() for x in measures),
        "non-finite price or volume": ~pl.all_horizontal(x.is_finite() for x in measures),
        "non-positive price": pl.any_horizontal(x <= 0 for x in prices),
        "high below low, open or close": h < pl.max_horizontal(l, o, c),
        "low above open or close": l > pl.min_horizontal(o, c),
        "negative volume": pl.col("volume") < 0,
        "session in the future": pl.col("session") > today,
    }
    said = {reason: pl.lit(reason) for reason in rules}
    said[_TOO_LONG] = pl.format(f"{_TOO_LONG}; at most {LONGEST_SYMBOL} are kept", length)
    return pl.coalesce(pl.when(broken).then(said[reason]) for reason, broken in rules.items())


def require_usable(bars: CheckedBars | BarTally, max_rejected_share: float, source: str) -> None:
    """Stop when too many rows of a source break the bar contract; `source` names it in the message.

    Isolated prices are no broken rows, unless a quarter of all rows are. Raises BarContractError if no row is
    accepted, or the share of broken rows exceeds `max_rejected_share`. It lists reasons, counts and examples.
    """
    tally = bars if isinstance(bars, BarTally) else BarTally().plus(bars)
    if tally.accepted and tally.broken_share <= max_rejected_share:
        return
    reasons = "".join(f"\n  {count} x {reason}" for reason, count in tally.reasons.items())
    first = tally.examples.head(EXAMPLES_IN_A_MESSAGE).iter_rows(named=True)
    examples = "".join("\n  " + " ".join(f"{key}={value}" for key, value in row.items()) for row in first)
    # With two decimals the share could read as allowed.
    shares = told_apart(tally.broken_share, max_rejected_share, 2, percent=True)
    digits = shares.digits if shares else 2
    found, most = (f"{100 * share:.{digits}f}%" for share in (tally.broken_share, max_rejected_share))
    message = (
        f"{source}: expected bars of which at most {most} break the bar contract; "
        f"{tally.broken} of {tally.accepted + tally.rejected} do ({found}). "
        "Nothing was stored.\n"
        f"Reasons:{reasons or ' none, there are no rows'}\nFirst examples:{examples or ' none'}\n"
        f"{_advice(tally)}"
    )
    raise BarContractError(message)


def _advice(tally: BarTally) -> str:
    if not tally.accepted:
        return "Mend the source, or name another one: boursomatic materialize --provider files --path FILE"
    enough = math.ceil(100 * tally.broken_share) / 100
    return f"Mend the source, or allow more: BOURSOMATIC_MAX_REJECTED_SHARE={enough:g} boursomatic materialize"


def require_panel(panel: pl.DataFrame, columns: Sequence[str] = ()) -> None:
    """Check the contract of a panel: `columns` present, sorted by symbol and session, unique on them.

    Raises PanelContractError, naming the first offending row or the missing columns.
    """
    _require_columns(panel, [*PANEL_KEY, *columns])
    symbol, session = pl.col("symbol"), pl.col("session")
    same = symbol == symbol.shift()
    unordered = (symbol < symbol.shift()) | (same & (session <= session.shift()))
    misplaced = panel.filter(symbol.is_null() | session.is_null() | unordered)
    if misplaced.height:
        row = misplaced.row(0, named=True)
        message = (
            "a panel must be sorted by symbol and session, unique on them and without nulls there; found "
            f"{row['symbol']!r} {row['session']} after a later or equal row ({misplaced.height} such rows)"
        )
        raise PanelContractError(message)


def require_rows(panel: pl.DataFrame, needed: str, columns: Sequence[str] = ()) -> None:
    """Refuse a panel without rows, or with nulls in `columns`; `needed` begins the message.

    Raises NoRowsError, saying what is missing, and how often.
    """
    nulls = {name: panel[name].null_count() for name in columns if name in panel.columns}
    missing = [f"{count} of {panel.height} have no {name}" for name, count in nulls.items() if count]
    if panel.is_empty() or missing:
        message = f"{needed}; {', '.join(missing) or 'there are none'}"
        raise NoRowsError(message)


def _require_columns(panel: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in panel.columns]
    if missing:
        message = f"expected columns {list(columns)}; missing {missing}, found {panel.columns}"
        raise PanelContractError(message)


def symbol_groups(counts: pl.DataFrame, rows: int) -> list[list[str]]:
    """Split symbols, with their number of `rows`, into groups of about `rows` rows."""
    number = (pl.col("rows").cum_sum() - pl.col("rows")) // rows
    return counts.group_by(number.alias("group"), maintain_order=True).agg("symbol")["symbol"].to_list()
