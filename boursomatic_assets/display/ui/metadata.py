"""Metadata that several assets share: schemas with descriptions, column lineage, previews, spans."""

from __future__ import annotations

import base64
import math
import re
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, DERIVED_INPUTS, FEATURES
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import sha256, strict_json
from boursomatic_assets.core.trace.lineage import column_dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.storage.postgres.database import UpsertCounts

PREVIEW_ROWS = 5
# The page cuts off longer lists of categories.
CATEGORIES_NAMED = 3
SIGNIFICANT_DIGITS = 6

COLUMN_DESCRIPTIONS: dict[str, str] = {
    "symbol": "The instrument's symbol.",
    "session": "The exchange's trading session, a date.",
    "exchange": "ISO 10383 code of the exchange, or US.",
    "name": "The company's name.",
    "sector": "GICS sector.",
    "market_cap_bucket": "small, mid or large.",
    "pe_bucket": "low, medium or high.",
    "currency": "ISO 4217 code of the currency it trades in.",
    "is_active": "Whether the product still follows it.",
    "open": "Opening price, as the source gives it.",
    "high": "Highest price, as the source gives it.",
    "low": "Lowest price, as the source gives it.",
    "close": "Closing price, as the source gives it.",
    "volume": "Shares traded, as the source gives them.",
    **{feature.name: feature.doc for feature in FEATURES},
    **{derived.name: derived.doc for derived in DERIVED_INPUTS},
    "forward_return": "Return over the next horizon of sessions, a fraction; null while the horizon runs.",
    "label_end": "Session in which the label became known.",
    "label": "BUY, HOLD or SELL by the forward return; null while the horizon runs.",
    "realised_return": "The forward return. If the instrument ended or was halted within the horizon: the return "
    "of a position closed at its last price. Null while the horizon runs, and on days that are no sessions.",
    "realised_on": "Session in which the horizon ended; null if the realised return is null.",
    "ended_early": "Whether the instrument ended or was halted within the horizon; it is closed at its last price.",
    "set": "validation or test.",
    "probability_buy": "The classifier's probability of BUY.",
    "probability_hold": "The classifier's probability of HOLD.",
    "probability_sell": "The classifier's probability of SELL.",
    "predicted_label": "The most probable class.",
    "predicted_return": "The regressor's forecast of the forward return, a fraction.",
    "fold": "Number of the fold, from 1, in time order.",
    **{
        f"volatility_probability_{name}": f"Probability of {name.upper()} by a classifier with the one feature "
        "vol_20d; null if the experiment has no such feature."
        for name in ("buy", "hold", "sell")
    },
    "momentum_12_1": "Return from 252 to 21 bars before the session, a fraction; null if the history is too short.",
    **{
        f"prior_probability_{name}": f"Share of {name.upper()} in the training set."
        for name in ("buy", "hold", "sell")
    },
    "prior_return": "Mean forward return of the training set, a fraction.",
    "book": "buy and long_short follow the model's calls; the others are for comparison.",
    "return": "Return of the whole book over the session, net of cost, a fraction.",
    "gross": "Return of the whole book over the session before cost, a fraction.",
    "equity": "Wealth after the session, from a starting capital of 1.",
    "drawdown": "Distance of the wealth from its running peak, in [-1, 0].",
    "turnover": "Value traded in the session over the book's value, both sides counted.",
    "exposure": "Value held at the start of the session, longs plus shorts, over the book's value.",
    "weight": "Share of the book's value, negative if short.",
    "weight_change": "Value bought over the book's value, negative if sold.",
    "price": "Close of the trade.",
    "feature": "Model input, or predictions for the model's output.",
    "classifier_gain": "Share of the classifier's total gain.",
    "classifier_splits": "Splits in the classifier's trees.",
    "regressor_gain": "Share of the regressor's total gain.",
    "regressor_splits": "Splits in the regressor's trees.",
    "statistic": "Statistic that compares the newest sessions with those before them.",
    "value": "The statistic of the newest five sessions.",
    "level": "Alarm level of the value; null if there are too few past windows.",
    "p_value": "Share of past windows with at least this value.",
    "alarmed": "Whether the value is an alarm.",
    "from_training": "The same statistic against the whole training panel; it never raises an alarm.",
    "partner": "The feature whose rank correlation with this one has changed most.",
}


_LIVE = re.compile(r"[\\`\[\]<>|&]")


def bullets(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Sentences as a list."""
    return dg.MetadataValue.md("\n".join(f"- {plain(line)}" for line in lines) or "none")


def plain(text: str) -> str:
    """Text of data for Markdown, where it makes no link, picture, markup or cell.

    A picture in the name of an instrument would send a request when its page is opened.
    """
    return _LIVE.sub(r"\\\g<0>", " ".join(text.split())).replace("://", ":\\//")


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A picture as Markdown with a data URI, so that no file is needed beside it. `alt` says what it shows."""
    words = " ".join(alt.split()).replace("[", "(").replace("]", ")")
    return dg.MetadataValue.md(f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Rows as a table."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    return dg.MetadataValue.md(markdown_table(frame))


def data_version(value: pl.DataFrame | Mapping[str, Any]) -> dg.DataVersion:
    """Version of the content of a frame or of strict JSON: equal content is shown as up to date."""
    return dg.DataVersion(fingerprint(value) if isinstance(value, pl.DataFrame) else sha256(strict_json(value)))


def table_metadata(frame: pl.DataFrame) -> dict[str, Any]:
    """Row count, columns with types and descriptions, and the first rows."""
    return {
        "dagster/row_count": frame.height,
        "dagster/column_schema": column_schema(frame.schema),
        "preview": table(frame.head(PREVIEW_ROWS)),
    }


def panel_metadata(panel: pl.DataFrame) -> dict[str, Any]:
    """As `table_metadata`, with the newest row of some symbols, the symbols, and the span of sessions."""
    first, last = panel["session"].min(), panel["session"].max()
    newest = panel.group_by("symbol", maintain_order=True).last().head(PREVIEW_ROWS)
    return {
        **table_metadata(panel),
        "preview": table(newest.select(panel.columns)),
        "symbols": panel["symbol"].n_unique(),
        "sessions": panel["session"].n_unique(),
        "first_session": str(first),
        "last_session": str(last),
    }


def content_metadata(content: pl.DataFrame, newest: pl.DataFrame) -> dict[str, Any]:
    """Summary of a stored table: `content` from `read_content`, and some of its newest rows."""
    return {
        "dagster/row_count": int(content["rows"].sum()),
        "dagster/column_schema": column_schema(newest.schema),
        "preview": table(newest),
        "symbols": content.height,
        "first_session": str(content["first"].min()),
        "last_session": str(content["last"].max()),
        "newest_session_by_exchange": {
            name: str(last)
            for name, last in content.group_by("exchange").agg(pl.col("last").max()).sort("exchange").rows()
        },
    }


def written_metadata(counts: UpsertCounts, url: str, name: str) -> dict[str, Any]:
    """Rows that an update wrote, and the table's name."""
    return {
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated,
        "rows_unchanged": counts.unchanged,
        "dagster/uri": url,
        "dagster/table_name": f"public.{name}",
    }


def column_schema(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Columns for the UI, each with its type and description."""
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=_type_name(dtype), description=COLUMN_DESCRIPTIONS.get(name))
            for name, dtype in schema.items()
        ]
    )


def _type_name(dtype: pl.DataType) -> str:
    if not isinstance(dtype, pl.Enum):
        return str(dtype)
    return f"Enum({', '.join(dtype.categories)})" if len(dtype.categories) <= CATEGORIES_NAMED else "Enum"


def column_lineage(asset: str, features: Sequence[str] = DEFAULT_INPUTS) -> dict[str, dg.TableColumnLineage]:
    """The upstream columns of each column of an asset."""
    dependencies = {
        column: [dg.TableColumnDep(dg.AssetKey(upstream), name) for upstream, name in sources]
        for column, sources in column_dependencies(asset, features).items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(dependencies)}


def markdown_table(frame: pl.DataFrame) -> str:
    """A small frame as a Markdown table; numbers have six significant digits."""
    head = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + "---|" * frame.width
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.iter_rows()]
    return "\n".join([head, rule, *rows])


def numeric_metadata(figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures as plain numbers, which the UI plots over runs. Undefined ones are left out."""
    return {
        name: float(f"{value:.{SIGNIFICANT_DIGITS}g}") for name, value in figures.items() if math.isfinite(value)
    }


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.{SIGNIFICANT_DIGITS}g}"
    if isinstance(value, date):
        # With hyphens that do not break the line.
        return value.isoformat().replace("-", "\N{NON-BREAKING HYPHEN}")
    return plain(str(value))
