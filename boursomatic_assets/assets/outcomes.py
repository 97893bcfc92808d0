"""What became of recommendations: judged once their horizon has passed, beside what was expected of them."""

from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import OWNERS, code_version
from boursomatic_assets.core.dataset.leaks import sampled_symbols
from boursomatic_assets.core.market.horizons import newest_sessions
from boursomatic_assets.core.recommendations.outcome_audit import differences, slow_outcome
from boursomatic_assets.core.recommendations.outcomes import (
    buy_record,
    judge_outcomes,
    summarise_outcomes,
    surprises,
)
from boursomatic_assets.display.ui.metadata import data_version, markdown_table
from boursomatic_assets.display.ui.outcomes import buy_metadata, outcome_metadata, record_table
from boursomatic_assets.storage.dagster.resources import PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.bar_history import changes_since
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.instruments_table import read_exchanges
from boursomatic_assets.storage.postgres.market_tables import (
    newest_session,
    read_spans,
    read_usable_bars,
    symbol_batches,
)
from boursomatic_assets.storage.postgres.model_table import active_version
from boursomatic_assets.storage.postgres.outcomes_table import read_outcomes, write_outcomes
from boursomatic_assets.storage.postgres.panels import Part
from boursomatic_assets.storage.postgres.recommendations_table import (
    count_open,
    find_recommendation,
    open_recommendations,
)

SYMBOLS_LOOKED_AT, ROWS_A_SYMBOL = 24, 6
_NAMED = ["symbol", "session", "profile", "label"]
_VERSIONED = ["recommendation_id", "exit_session", "realised_return", "hit", "first_touch"]


@dg.asset(
    group_name="outcomes",
    kinds={"polars", "postgres"},
    owners=OWNERS,
    code_version=code_version(__name__, "outcomes"),
    deps=["recommendations", "price_bars"],
)
@retried
def outcomes(platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What became of each recommendation whose horizon has passed: return, hit or miss, stop or target.

    A recommendation is judged once, and what was judged stays; running twice adds nothing. The record sets how
    often calls came true beside the confidence that they were given with; `falls_short` says whether the active
    version's BUY calls came true less often than chance explains.
    """
    database = platform.database()
    added = _judge(database, open_recommendations(database, until=newest_session(database)))
    stored, active = read_outcomes(database), active_version(database)
    metadata = {
        **outcome_metadata(stored, summarise_outcomes(stored)),
        **(buy_metadata(buy_record(stored, active.version)) if active else {}),
        "rows_inserted": added,
        "still_open": count_open(database),
        "dagster/uri": database.shown_url,
        "dagster/table_name": "public.recommendation_outcomes",
    }
    return dg.MaterializeResult(metadata=metadata, data_version=data_version(stored.select(_VERSIONED)))


def _judge(database: Database, waiting: pl.DataFrame) -> int:
    """Judge what is over, as many symbols at a time as fit in memory; returns how many outcomes are new."""
    first: Any = waiting["session"].min()
    if first is None:
        return 0
    spans = read_spans(database, since=first).join(read_exchanges(database), on="symbol")
    newest, added = newest_sessions(spans), 0
    for symbols in symbol_batches(database, waiting["symbol"].unique().to_list()):
        own = waiting.filter(pl.col("symbol").is_in(symbols))
        part = Part(symbols=symbols, since=own["session"].min())  # type: ignore[arg-type]
        bars = read_usable_bars(database, ["high", "low", "close", "exchange"], part)
        added += write_outcomes(database, judge_outcomes(own, bars, newest))
    return added


@dg.asset_check(asset=outcomes, blocking=True, additional_deps=["price_bars"])
def outcomes_follow_from_their_bars(platform: PlatformResource) -> dg.AssetCheckResult:
    """The newest outcomes of some symbols are those that their bars give, judged a second time, bar by bar.

    An outcome whose bars were rewritten since says what was true when it was judged: it is only counted, as is one
    whose instrument has no bar there any more, or is quarantined.
    """
    database = platform.database()
    rows, bars = _looked_at(database)
    wrong, counts = [], {"rows": rows.height, "rewritten_since": 0, "without_bars": 0}
    for row in rows.to_dicts():
        call = _call(database, row)
        found = slow_outcome(call, bars.filter(pl.col("symbol") == row["symbol"]))
        names = [] if found is None else differences(row, call, found)
        if found is None:
            counts["without_bars"] += 1
        elif names and _rewritten_since(database, row, found.exit_session):
            counts["rewritten_since"] += 1
        elif names:
            wrong.append({**{name: row[name] for name in _NAMED}, "differs_in": ", ".join(names)})
    listed = {"wrong": dg.MetadataValue.md(markdown_table(pl.DataFrame(wrong)))} if wrong else {}
    return dg.AssetCheckResult(passed=not wrong, metadata={**counts, "wrong_rows": len(wrong), **listed})


def _looked_at(database: Database) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Some stored outcomes, and the bars of their symbols from the first of their sessions on."""
    stored = read_outcomes(database)
    spans = stored.group_by("symbol").agg(rows=pl.len(), last=pl.col("session").max())
    symbols = sampled_symbols(spans, SYMBOLS_LOOKED_AT)
    rows = stored.filter(pl.col("symbol").is_in(symbols)).group_by("symbol").tail(ROWS_A_SYMBOL)
    first: Any = rows["session"].min()
    bars = read_usable_bars(database, ["high", "low", "close", "exchange"], Part(symbols=symbols, since=first))
    return rows, bars


def _call(database: Database, row: dict[str, Any]) -> dict[str, Any]:
    """What was recommended, as `differences` wants it."""
    (found,) = find_recommendation(database, row["recommendation_id"])
    return {**found, **found["snapshot"]["labelling"], "close": found["snapshot"]["close"]}


def _rewritten_since(database: Database, row: dict[str, Any], exit_session: date) -> bool:
    until = max(exit_session, row["exit_session"])
    changes = changes_since(database, row["symbol"], until, row["judged_at"])
    return changes.filter(pl.col("session") >= row["session"]).height > 0


@dg.asset_check(asset=outcomes)
def calls_come_true_as_often_as_expected(platform: PlatformResource) -> dg.AssetCheckResult:
    """No profile and label comes true more or less often than its confidence says, beyond what chance explains."""
    summary = summarise_outcomes(read_outcomes(platform.database()))
    found = surprises(summary)
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "judged": summary.drop_nulls("p_value").height,
            "surprises": dg.MetadataValue.md(record_table(found)) if found.height else "none",
        },
    )
