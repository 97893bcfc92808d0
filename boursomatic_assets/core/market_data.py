"""Price bars: the contract they must keep, and what becomes of bars that break it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.errors import BarContractError, PanelContractError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

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

EXAMPLES_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class CheckedBars:
    """Bars split by the bar contract.

    Attributes
    ----------
    accepted : DataFrame
        Panel of `BAR_SCHEMA`, sorted by symbol and session, unique on them.
    rejected : DataFrame
        The other rows as they came, with a `reason` column; together with `accepted` every row of the source.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def rejected_share(self) -> float:
        """Share of all rows that were rejected, as a fraction; 0.0 for no rows at all."""
        total = self.accepted.height + self.rejected.height
        return self.rejected.height / total if total else 0.0

    def reasons(self) -> dict[str, int]:
        """Count rejected rows by reason, the most frequent first."""
        counts = self.rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
        return dict(counts.iter_rows())


def scale_to_adjusted(bars: pl.DataFrame) -> pl.DataFrame:
    """Scale each whole bar by `adj_close / close`, so that returns include splits and dividends.

    Parameters
    ----------
    bars : DataFrame
        With the columns of `BAR_SCHEMA` and `adj_close`. Volume is left as it is.

    Returns
    -------
    DataFrame
        Without `adj_close`. A missing or impossible factor turns into a price that the bar contract rejects; a
        close that is not positive leaves its bar as it is, so that no factor can make it lawful.
    """
    factor = pl.when(pl.col("close") > 0).then(pl.col("adj_close") / pl.col("close")).otherwise(1.0)
    # The close too is multiplied, not replaced by adj_close: one rounded factor keeps the order of a bar's prices.
    return bars.with_columns(pl.col(name) * factor for name in PRICE_COLUMNS).drop("adj_close")


def check_bars(bars: pl.DataFrame, today: date) -> CheckedBars:
    """Set aside the rows that break the bar contract, each with the first reason that applies.

    Parameters
    ----------
    bars : DataFrame
        Columns of `BAR_SCHEMA`, in any row order.
    today : date
        The newest session that can exist; later ones are in the future.

    Returns
    -------
    CheckedBars
        No row is dropped or repaired. Of copies that agree in every column one is accepted; of copies that
        differ none, since nothing tells which is right.
    """
    _require_columns(bars, list(BAR_SCHEMA))
    typed = bars.select(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items())
    judged = typed.with_columns(reason=_first_broken_rule(today))
    sound = judged.filter(pl.col("reason").is_null())
    repeated = pl.struct(PANEL_KEY).is_duplicated()
    copies = sound.filter(repeated).with_columns(reason=_duplicate_reason())
    unique = [sound.filter(~repeated), copies.filter(pl.col("reason").is_null())]
    broken = [judged.filter(pl.col("reason").is_not_null()), copies.filter(pl.col("reason").is_not_null())]
    return CheckedBars(
        accepted=pl.concat(unique).drop("reason").sort(PANEL_KEY),
        rejected=pl.concat(broken).sort([*PANEL_KEY, "reason"], maintain_order=True),
    )


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
    rules = {
        "null symbol or session": pl.col("symbol").is_null() | pl.col("session").is_null(),
        "null price or volume": pl.any_horizontal(x.is_null() for x in measures),
        "non-finite price or volume": ~pl.all_horizontal(x.is_finite() for x in measures),
        "non-positive price": pl.any_horizontal(x <= 0 for x in prices),
        "high below low, open or close": h < pl.max_horizontal(l, o, c),
        "low above open or close": l > pl.min_horizontal(o, c),
        "negative volume": pl.col("volume") < 0,
        "session in the future": pl.col("session") > today,
    }
    return pl.coalesce(pl.when(broken).then(pl.lit(reason)) for reason, broken in rules.items())


def require_usable(bars: CheckedBars, max_rejected_share: float, source: str) -> None:
    """Stop when a source is too broken for the rest of it to be believed.

    Parameters
    ----------
    bars : CheckedBars
    max_rejected_share : float
        Largest share of rejected rows, as a fraction.
    source : str
        Where the rows came from, for the message.

    Raises
    ------
    BarContractError
        If no row is usable, or more than `max_rejected_share` of them are rejected. Lists the reasons with
        their counts and the first examples.
    """
    if bars.accepted.height and bars.rejected_share <= max_rejected_share:
        return
    total = bars.accepted.height + bars.rejected.height
    reasons = "".join(f"\n  {count} x {reason}" for reason, count in bars.reasons().items())
    first = bars.rejected.head(EXAMPLES_IN_A_MESSAGE).iter_rows(named=True)
    examples = "".join("\n  " + " ".join(f"{key}={value}" for key, value in row.items()) for row in first)
    message = (
        f"{source}: expected bars of which at most {max_rejected_share:.2%} break the bar contract; "
        f"{bars.rejected.height} of {total} do ({bars.rejected_share:.2%}). Nothing was stored.\n"
        f"Reasons:{reasons or ' none, there are no rows'}\nFirst examples:{examples or ' none'}\n"
        "Mend the source, or allow more: BOURSOMATIC_MAX_REJECTED_SHARE=0.05 boursomatic materialize"
    )
    raise BarContractError(message)


def require_panel(panel: pl.DataFrame, columns: Sequence[str] = ()) -> None:
    """Check the contract of a panel: `columns` present, sorted by symbol and session, unique on them.

    Raises
    ------
    PanelContractError
        Naming the first offending row or the missing columns.
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


def _require_columns(panel: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in panel.columns]
    if missing:
        message = f"expected columns {list(columns)}; missing {missing}, found {panel.columns}"
        raise PanelContractError(message)


def fingerprint(panel: pl.DataFrame) -> str:
    """Hash a frame's content: column names, types, order and every value.

    Returns
    -------
    str
        SHA-256 as 64 hexadecimal digits. Equal content gives an equal hash whatever its memory layout.
    """
    digest = hashlib.sha256()
    for column in panel.get_columns():
        digest.update(f"{len(column.name)}:{column.name}:{column.dtype}:{column.len()};".encode())
        digest.update(column.is_null().cast(pl.UInt8).to_numpy().tobytes())
        digest.update(_value_bytes(column))
    return digest.hexdigest()


def _value_bytes(column: pl.Series) -> bytes:
    if column.dtype.is_numeric():
        return column.fill_null(0).to_numpy().tobytes()
    if column.dtype == pl.Date:
        return column.to_physical().fill_null(0).to_numpy().tobytes()
    # The lengths go in too: nothing inside a text can then pass for the border between two.
    texts = column.cast(pl.String).fill_null("")
    return texts.str.len_bytes().to_numpy().tobytes() + "".join(texts.to_list()).encode()
