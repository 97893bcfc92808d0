"""Instruments and their daily bars: from the price source, through the bar contract, into the database."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from boursomatic_assets.assets import FRESHNESS, OWNERS, code_version
from boursomatic_assets.core.market.calendars import CALENDARS
from boursomatic_assets.display.ui import bar_update as shown
from boursomatic_assets.display.ui.metadata import data_version
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.services.ingest import audit
from boursomatic_assets.services.ingest.instruments import update_instruments
from boursomatic_assets.services.ingest.jump_audit import audit_jumps
from boursomatic_assets.services.ingest.update import StoredBars, update_bars
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.market_tables import count_broken_bars


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

    With a network source they come from the universe: its values replace those of the table, and an instrument that
    left it becomes inactive, never deleted. With a local source they come from the prices: values in the table
    stay, and only blanks are filled.
    """
    settings, database = platform.settings(), platform.database()
    update = update_instruments(database, provider_for(settings), settings, datetime.now(UTC))
    metadata = shown.instruments_metadata(update, database.shown_url)
    return dg.MaterializeResult(metadata=metadata, data_version=data_version(update.listed))


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

    Only missing bars are fetched and written. Rows that break the bar contract go into the table `rejected_bars`
    with the reason; they are never dropped or repaired. A local source with too many of them is refused whole.
    """
    settings, database = platform.settings(), platform.database()
    provider = provider_for(settings)
    update = update_bars(database, provider, settings, datetime.now(UTC), context.log.info)
    stored = StoredBars.read(database)
    metadata = shown.price_bars_metadata(update, stored, database.shown_url, provider.description)
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(stored.version))


@dg.asset_check(asset=price_bars, blocking=True)
def stored_bars_keep_the_contract(platform: PlatformResource) -> dg.AssetCheckResult:
    """No daily bar in the table has an impossible price or volume, whichever program wrote it."""
    broken = count_broken_bars(platform.database())
    return dg.AssetCheckResult(passed=broken == 0, metadata={"broken_rows": broken})


@dg.asset_check(asset=price_bars, blocking=True)
def the_universe_has_arrived(platform: PlatformResource) -> dg.AssetCheckResult:
    """The required share of the requested symbols arrived. The others are listed with the reason."""
    settings = platform.settings()
    reports = audit.newest_reports(platform.database(), settings)
    if reports is None:
        return dg.AssetCheckResult(
            passed=True, description="The source is read whole: no symbols are requested from it."
        )
    arrived = audit.arrived_among(reports)
    required = settings.min_arrived_share
    return dg.AssetCheckResult(
        passed=arrived >= required * len(reports),
        description=f"{arrived} of {len(reports)} symbols arrived; at least {100 * required:.10g}% must. "
        + shown.first_reasons(reports),
        metadata=shown.arrival_metadata(reports),
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            f"sessions_of_{calendar.lower()}",
            asset=price_bars,
            description=f"Every session of {calendar} has a bar, no other date has one, and none is out of date.",
        )
        for calendar in CALENDARS
    ],
    can_subset=True,
)
def sessions_of_exchanges(
    context: dg.AssetCheckExecutionContext, platform: PlatformResource
) -> Iterator[dg.AssetCheckResult]:
    """Compare the sessions of each exchange with the stored bars."""
    settings, database = platform.settings(), platform.database()
    for key in sorted(context.selected_asset_check_keys, key=str):
        calendar = key.name.removeprefix("sessions_of_").upper()
        audited = audit.audit_exchange(database, settings, calendar, datetime.now(UTC))
        yield dg.AssetCheckResult(
            check_name=key.name,
            asset_key=key.asset_key,
            passed=audited.is_sound,
            severity=dg.AssetCheckSeverity.WARN,
            description=None if audited.is_sound else shown.audit_sentence(audited.sessions, audited.missed),
            metadata=shown.audit_metadata(audited.sessions, audited.newest),
        )


@dg.asset_check(asset=price_bars)
def sessions_have_no_long_gaps(platform: PlatformResource) -> dg.AssetCheckResult:
    """No symbol has more than ten calendar days between two bars. Longer gaps are listed, not filled."""
    gaps = audit.long_gaps(platform.database())
    return dg.AssetCheckResult(
        passed=gaps.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"gaps": gaps.height, **shown.tables_metadata({"longest": gaps})},
    )


@dg.asset_check(asset=price_bars)
def jumps_are_explained(platform: PlatformResource) -> dg.AssetCheckResult:
    """No symbol is quarantined for a jump, and no jump is left after adjustments. Doubtful jumps are listed.

    A jump is an overnight step that the instrument, the market and the volume do not explain. Other moves of more
    than 40 % are listed as well.
    """
    audited = audit_jumps(platform.database())
    return dg.AssetCheckResult(
        passed=audited.waiting.is_empty() and audited.left.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=shown.jumps_sentence(audited),
        metadata=shown.jumps_metadata(audited),
    )
