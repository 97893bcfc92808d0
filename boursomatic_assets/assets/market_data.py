"""Instruments and their daily bars: from the price source, through the bar contract, into the database."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.calendars import CALENDARS, last_complete_session
from boursomatic_assets.core.market.corporate_actions import (
    JUMP_SCHEMA,
    doubtful_steps,
    large_moves,
    split_like_jumps,
)
from boursomatic_assets.core.market.fetch_report import Outcome
from boursomatic_assets.core.market.session_audit import traded_on_weekends
from boursomatic_assets.display.terminal.closing import TO_LOOK_AT
from boursomatic_assets.display.ui.bar_update import (
    arrival_metadata,
    audit_metadata,
    audit_sentence,
    first_reasons,
    tables_metadata,
    update_metadata,
)
from boursomatic_assets.display.ui.canvas import embedded
from boursomatic_assets.display.ui.data_pictures import coverage_picture
from boursomatic_assets.display.ui.jumps import jumps_in_words
from boursomatic_assets.display.ui.metadata import (
    column_lineage,
    content_metadata,
    data_version,
    table_metadata,
    written_metadata,
)
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.services.ingest.audit import audit_calendar
from boursomatic_assets.services.ingest.update import require_believable, update_bars
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.content import read_content, version_of
from boursomatic_assets.storage.postgres.fetch_log import newest_round, read_results
from boursomatic_assets.storage.postgres.instruments_table import (
    read_instruments,
    write_instruments,
    write_universe,
)
from boursomatic_assets.storage.postgres.market_tables import (
    count_broken_bars,
    newest_bars,
    read_usable_bars,
    symbol_batches,
)
from boursomatic_assets.storage.postgres.panels import Part

LONG_GAP_DAYS = 10
# Beyond this share of its sessions missing, or of rows too many, an exchange's bars deserve a look.
MOST_AMISS = 0.001
# A long weekend passes without a new session on either continent.
FRESH_FOR = timedelta(days=5)
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR, warn_window=FRESH_FOR - timedelta(days=1))


@dg.asset(
    group_name="market_data",
    kinds={"postgres", "polars"},
    owners=OWNERS,
    code_version=code_version(__name__, "instruments"),
    io_manager_key="tables",
)
@retried
def instruments(platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Companies to follow, kept in the table `instruments`.

    From the universe, for a source that is asked over a network: what the list says holds, and an instrument that
    left it becomes inactive, never deleted. From the prices themselves for a source at hand: what the table says
    stays, only blanks are filled.
    """
    settings, database = platform.settings(), platform.database()
    provider = provider_for(settings)
    left: list[str] = []
    if provider.asks_for_wishes:
        counts, left = write_universe(database, provider.instruments())
    else:
        # A source whose bars are refused brings no instruments either.
        sound = require_believable(provider, settings, datetime.now(UTC))
        found = provider.instruments()
        # Nor do rows that are set aside.
        kept = found if sound is None else found.filter(pl.col("symbol").is_in(list(sound)))
        counts = write_instruments(database, kept)
    listed = read_instruments(database)
    metadata = {
        **table_metadata(listed),
        **written_metadata(counts, database.shown_url, "instruments"),
        "source": provider.description,
        "active": listed["is_active"].sum(),
        "became_inactive": left,
    }
    return dg.MaterializeResult(metadata=metadata, data_version=data_version(listed))


@dg.asset(
    group_name="market_data",
    kinds={"postgres", "polars"},
    owners=OWNERS,
    code_version=code_version(__name__, "price_bars"),
    io_manager_key="tables",
    deps=[instruments],
    freshness_policy=FRESHNESS,
)
@retried
def price_bars(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Daily bars per symbol and session, kept in the table `price_bars`.

    Only what the table does not have is fetched and written. Rows that break the bar contract are set aside in the
    table `rejected_bars` with the reason, never dropped or repaired. Above the configured share of them, a source
    at hand is refused whole.
    """
    settings, database = platform.settings(), platform.database()
    provider = provider_for(settings)
    update = update_bars(database, provider, settings, datetime.now(UTC), context.log.info)
    content = read_content(database, "price_bars")
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
    metadata = {
        **content_metadata(content, newest_bars(database)),
        **column_lineage("price_bars"),
        **written_metadata(update.counts, database.shown_url, "price_bars"),
        "source": provider.description,
        **_coverage(content),
        **update_metadata(update, corrections),
    }
    version = version_of(content, str(corrections.adjustments.rows()), str(corrections.quarantined))
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(version))


def _coverage(content: pl.DataFrame) -> dict[str, Any]:
    if content.is_empty():
        return {}
    return {"coverage": dg.MetadataValue.md(embedded(coverage_picture(content), "Symbols with bars"))}


@dg.asset_check(asset=price_bars, blocking=True)
def stored_bars_keep_the_contract(platform: PlatformResource) -> dg.AssetCheckResult:
    """No daily bar in the table, whoever wrote it, has a price or volume that cannot be."""
    broken = count_broken_bars(platform.database())
    return dg.AssetCheckResult(passed=broken == 0, metadata={"broken_rows": broken})


@dg.asset_check(asset=price_bars, blocking=True)
def the_universe_has_arrived(platform: PlatformResource) -> dg.AssetCheckResult:
    """The configured share of the symbols that a network source was asked for arrived; the others are explained."""
    settings, database = platform.settings(), platform.database()
    number = newest_round(database, settings.provider) if provider_for(settings).asks_for_wishes else None
    if number is None:
        return dg.AssetCheckResult(passed=True, description="The source has everything at hand.")
    reports = read_results(database, number)
    arrived = sum(report.outcome is Outcome.FETCHED for report in reports)
    required = settings.min_arrived_share
    return dg.AssetCheckResult(
        passed=arrived >= required * len(reports),
        description=f"{arrived} of {len(reports)} symbols arrived; at least {100 * required:.10g}% must. "
        + first_reasons(reports),
        metadata=arrival_metadata(reports),
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            f"sessions_of_{calendar.lower()}",
            asset=price_bars,
            description=f"Every session of {calendar} has its bar, no other date has one, and none is out of date.",
        )
        for calendar in CALENDARS
    ],
    can_subset=True,
)
def sessions_of_exchanges(
    context: dg.AssetCheckExecutionContext, platform: PlatformResource
) -> Iterator[dg.AssetCheckResult]:
    """Compare the sessions of each exchange with the bars that are stored."""
    settings, database = platform.settings(), platform.database()
    # A file is as new as it is; a source that goes on should have the newest session.
    goes_on = provider_for(settings).asks_for_wishes or settings.provider == "database"
    for key in sorted(context.selected_asset_check_keys, key=str):
        calendar = key.name.removeprefix("sessions_of_").upper()
        audit = audit_calendar(database, calendar)
        newest = last_complete_session(calendar, datetime.now(UTC)) if goes_on else None
        row = audit.exchanges.row(0, named=True) if audit.exchanges.height else None
        behind = row is not None and newest is not None and row["newest"] < newest
        amiss = row is not None and (
            row["missing"] + row["extra"] > MOST_AMISS * row["expected"]
            or row["stale_runs"]
            or traded_on_weekends(audit.extra).height
        )
        yield dg.AssetCheckResult(
            check_name=key.name,
            asset_key=key.asset_key,
            passed=not (behind or amiss),
            severity=dg.AssetCheckSeverity.WARN,
            description=audit_sentence(audit, newest if behind else None) if behind or amiss else None,
            metadata=audit_metadata(audit, newest),
        )


@dg.asset_check(asset=price_bars)
def sessions_have_no_long_gaps(platform: PlatformResource) -> dg.AssetCheckResult:
    """No symbol misses more than ten calendar days between two bars; longer gaps are listed, not filled."""
    gap = pl.col("session").diff().over("symbol").dt.total_days()
    gaps = _in_batches(platform, lambda bars: bars.with_columns(days=gap).filter(pl.col("days") > LONG_GAP_DAYS))
    longest = gaps.sort("days", descending=True).select("symbol", "session", "days")
    return dg.AssetCheckResult(
        passed=gaps.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"gaps": gaps.height, **tables_metadata({"longest": longest})},
    )


@dg.asset_check(asset=price_bars)
def jumps_are_explained(platform: PlatformResource) -> dg.AssetCheckResult:
    """No symbol is quarantined for a jump, and none is left once adjustments are applied; doubtful ones are listed.

    A jump is an overnight step that the instrument, the market and the volume do not explain. Other moves of more
    than 40 % are listed beside.
    """
    database = platform.database()
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
    waiting, accepted = corrections.jumps, corrections.adjustments.filter(pl.col("ratio") == 1.0)
    found: dict[str, list[pl.DataFrame]] = {"left": [], "doubtful": [], "large_moves": []}
    for symbols in symbol_batches(database):
        bars = read_usable_bars(database, ["open", "close", "volume"], Part(symbols=symbols))
        found["left"].append(split_like_jumps(bars))
        found["doubtful"].append(doubtful_steps(bars))
        found["large_moves"].append(large_moves(bars))
    empty = pl.DataFrame(schema=JUMP_SCHEMA)
    left, doubtful = (
        pl.concat([empty, *found[name]]).join(accepted, on=PANEL_KEY, how="anti") for name in ("left", "doubtful")
    )
    moves = pl.concat([empty.drop("split_ratio"), *found["large_moves"]])
    said = {
        "Quarantined until explained (boursomatic adjustments add SYMBOL SESSION RATIO): ": waiting,
        "Left once adjustments are applied (boursomatic adjustments list): ": left,
        "Believed, yet doubtful: ": doubtful,
    }
    return dg.AssetCheckResult(
        passed=waiting.is_empty() and left.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=". ".join(words + jumps_in_words(jumps) for words, jumps in said.items() if jumps.height)
        or None,
        metadata={
            **({TO_LOOK_AT: doubtful.height} if doubtful.height else {}),
            "large_moves_count": moves.height,
            **tables_metadata({"quarantined": waiting, "left": left, "doubtful": doubtful, "large_moves": moves}),
        },
    )


def _in_batches(platform: PlatformResource, find: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """What `find` finds in the usable closes of all symbols, so many at a time as fit in memory."""
    database = platform.database()
    batches = symbol_batches(database)
    found = [find(read_usable_bars(database, ["close"], Part(symbols=symbols))) for symbols in batches]
    return pl.concat(found) if found else find(read_usable_bars(database, ["close"]))
