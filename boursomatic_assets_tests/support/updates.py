"""Updates of instruments and bars from the provider that the environment names."""

from __future__ import annotations

from datetime import UTC, datetime

from boursomatic_assets.core.market.fetch_report import Outcome
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.services.ingest.update import update_bars
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.content import read_content
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.fetch_log import newest_round, read_results
from boursomatic_assets.storage.postgres.instruments_table import write_universe

# Four answers of one symbol in a row fail once in 10,000 cases. Six such updates in a row show a fault.
MOST_UPDATES = 6


def update() -> Database:
    """Bring instruments and bars up to date."""
    settings = Settings.from_environment()
    database, provider = Database.open(settings), provider_for(settings)
    write_universe(database, provider.instruments())
    update_bars(database, provider, settings, datetime.now(UTC), lambda _: None)
    return database


def update_until_arrived(symbols: set[str]) -> Database:
    """Update until no source fails; a symbol without bars is one that the update reports as failed."""
    for _ in range(MOST_UPDATES):
        database = update()
        number = newest_round(database, Settings.from_environment().provider)
        assert number is not None
        reports = {report.symbol: report for report in read_results(database, number)}
        assert set(reports) == symbols
        failed = {symbol for symbol, report in reports.items() if report.outcome is Outcome.SOURCE_FAILED}
        assert symbols - set(read_content(database, "price_bars")["symbol"]) <= failed
        if not failed:
            return database
    message = f"sources failed in {MOST_UPDATES} updates in a row: {[reports[symbol] for symbol in failed]}"
    raise AssertionError(message)
