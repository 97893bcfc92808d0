"""Instruments and their daily bars: from the price source, through the bar contract, into the database."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core import market_data as core
from boursomatic_assets.core.market_data import CheckedBars, check_bars, require_usable
from boursomatic_assets.display.metadata import (
    column_lineage,
    data_version,
    markdown_table,
    panel_metadata,
    table_metadata,
)
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.storage.market_tables import count_broken_bars
from boursomatic_assets.storage.resources import PlatformResource

REJECTED_ROWS_SHOWN = 20
LONG_GAP_DAYS = 10


@dg.asset(
    group_name="market_data",
    kinds={"postgres", "polars"},
    owners=OWNERS,
    code_version=code_version(core),
    io_manager_key="tables",
)
def instruments(platform: PlatformResource) -> dg.Output[pl.DataFrame]:
    """Companies of the price source, kept in the table `instruments`.

    An instrument that is already there keeps what the table says about it; only blanks are filled.
    """
    provider = provider_for(platform.settings())
    # A source whose bars are refused brings no instruments either.
    _checked_bars(platform)
    listed = provider.instruments()
    metadata = {**table_metadata(listed), "source": provider.description}
    return dg.Output(listed, metadata=metadata, data_version=data_version(listed))


@dg.asset(
    group_name="market_data",
    kinds={"postgres", "polars"},
    owners=OWNERS,
    code_version=code_version(core),
    io_manager_key="tables",
    deps=[instruments],
)
def price_bars(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.Output[CheckedBars]:
    """Daily bars per symbol and session, adjusted, kept in the table `price_bars`.

    Rows that break the bar contract are set aside in the table `rejected_bars` with the reason, never dropped or
    repaired. Above the configured share of them nothing is stored at all.
    """
    bars, source = _checked_bars(platform), provider_for(platform.settings()).description
    context.log.info("%s: %d bars, %d rejected", source, bars.accepted.height, bars.rejected.height)
    metadata = {
        **panel_metadata(bars.accepted),
        **column_lineage("price_bars"),
        "source": source,
        **_rejected(bars),
    }
    return dg.Output(bars, metadata=metadata, data_version=data_version(bars.accepted))


def _checked_bars(platform: PlatformResource) -> CheckedBars:
    settings = platform.settings()
    provider = provider_for(settings)
    bars = check_bars(provider.bars(), today=datetime.now(UTC).date())
    require_usable(bars, settings.max_rejected_share, provider.description)
    return bars


def _rejected(bars: CheckedBars) -> dict[str, Any]:
    counts = {"rejected_rows": bars.rejected.height, "rejected_share": bars.rejected_share}
    if bars.rejected.is_empty():
        return counts
    rows = markdown_table(bars.rejected.head(REJECTED_ROWS_SHOWN))
    return {**counts, "rejected_reasons": bars.reasons(), "rejected_preview": dg.MetadataValue.md(rows)}


@dg.asset_check(asset=price_bars, blocking=True)
def stored_bars_keep_the_contract(platform: PlatformResource) -> dg.AssetCheckResult:
    """No daily bar in the table, whoever wrote it, has a price or volume that cannot be."""
    broken = count_broken_bars(platform.database())
    return dg.AssetCheckResult(passed=broken == 0, metadata={"broken_rows": broken})


@dg.asset_check(asset=price_bars)
def sessions_have_no_long_gaps(price_bars: pl.DataFrame) -> dg.AssetCheckResult:
    """No symbol misses more than ten calendar days between two bars; longer gaps are listed, not filled."""
    gap = pl.col("session").diff().over("symbol").dt.total_days()
    gaps = price_bars.with_columns(days=gap).filter(pl.col("days") > LONG_GAP_DAYS)
    return dg.AssetCheckResult(
        passed=gaps.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "gaps": gaps.height,
            "longest": dg.MetadataValue.md(
                markdown_table(gaps.sort("days", descending=True).select("symbol", "session", "days").head(10))
            ),
        },
    )
