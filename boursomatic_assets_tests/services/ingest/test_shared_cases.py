"""The cases of wrong prices that lie beside the checkout: jumps, spikes, adjusted closes, and what is right."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.market.adjusted_close import BAD_FACTOR
from boursomatic_assets.core.market.bars import ISOLATED, NO_TRADE, BarTally, require_usable
from boursomatic_assets.core.market.corporate_actions import split_like_jumps
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.services.ingest.adjusting import enter_adjustment
from boursomatic_assets.services.ingest.bars import checked_batch, store_all
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars
from boursomatic_assets_tests.support.oracles import shared_file

if TYPE_CHECKING:
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.postgres.database import Database

TODAY = date(2026, 11, 1)
SPLIT = date(2024, 6, 10)


@dataclass(frozen=True)
class Right:
    """What a README says is right: bars accepted, set aside with the reason, and jumps with the nearest ratio."""

    accepted: int
    set_aside: dict[tuple[str, str], str] = field(default_factory=dict)
    jumps: dict[tuple[str, str], float] = field(default_factory=dict)


RIGHT = {
    # 121 symbols of 60 bars: a factor of 7.84 throughout is a later reverse split.
    "08-adj-close-above-close": Right(7260),
    "13-hundredfold-day-adj-close": Right(779, {("MSFT", "2024-03-14"): ISOLATED}),
    "15-absurd-adj-close-before-a-jump": Right(779, {("MSFT", "2024-03-14"): BAD_FACTOR}),
    "16-splits-of-other-ratios": Right(
        1820,
        jumps={
            (symbol, "2024-04-04"): ratio
            for symbol, ratio in {"F13": 1 / 13, "F9": 1 / 9, "R250": 250, "R35": 35, "R60": 60, "R9": 9}.items()
        },
    ),
    "60-missed-splits": Right(
        81,
        jumps={
            ("AOI", "2015-06-29"): 10, ("BTU", "2015-10-01"): 15, ("CMLS", "2016-10-13"): 8,
            ("CRK", "2016-08-01"): 5, ("EBAY", "2015-07-20"): 1 / 2, ("FREE", "2016-04-14"): 245,
            ("KR", "2015-07-14"): 1 / 2, ("MNKD", "2017-03-03"): 5, ("NFLX", "2015-07-15"): 1 / 7,
        },
    ),
    # The falls and recoveries of OKE, GME, PCG and TDG stay. SAB stood at 14.53 among closes of 197,000.
    "61-real-moves-set-aside": Right(
        55,
        {
            ("CJ", "2017-03-09"): ISOLATED, ("CJ", "2017-03-10"): ISOLATED, ("CJ", "2017-03-14"): ISOLATED,
            ("CJ", "2017-03-20"): NO_TRADE, ("SAB", "2016-12-27"): ISOLATED, ("TCO", "2015-04-06"): ISOLATED,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_each_case_sets_aside_and_notes_what_is_right(case: str) -> None:
    (batch,) = FilesProvider(shared_file(f"cases/{case}/prices.csv")).batches()
    checked, right = checked_batch(batch, TODAY), RIGHT[case]
    assert checked.accepted.height == right.accepted
    # What is set aside does not make the file a broken one: the command goes on.
    require_usable(BarTally().plus(checked), 0.01, case)
    rejected = checked.rejected.select("symbol", "session", "reason").rows()
    assert {(symbol, str(session)): reason for symbol, session, reason in rejected} == right.set_aside
    jumps = split_like_jumps(checked.accepted).select("symbol", "session", "split_ratio").rows()
    assert {(symbol, str(session)): ratio for symbol, session, ratio in jumps} == pytest.approx(right.jumps)


def take(database: Database, settings: Settings, case: str) -> None:
    path = shared_file(f"cases/{case}")
    provider, named = FilesProvider(path), replace(settings, provider="files", provider_path=str(path))
    write_instruments(database, provider.instruments())
    store_all(database, provider, named, TODAY, lambda _: None)


def quarantined(database: Database) -> list[tuple[str, date]]:
    with database.bulk() as cursor:
        return read_corrections(cursor).jumps.select("symbol", "session").rows()


def test_a_split_between_two_files_is_noticed_at_once(database: Database, settings: Settings) -> None:
    take(database, settings, "40-split-between-two-files/june-7.csv")
    assert quarantined(database) == []
    take(database, settings, "40-split-between-two-files/june-10.csv")
    assert quarantined(database) == [("NVDA", SPLIT)]


def test_an_inverse_ratio_is_refused_and_the_right_one_gives_the_right_features(
    database: Database, settings: Settings
) -> None:
    take(database, settings, "36-adjustment-entry/prices.csv")
    with pytest.raises(
        ConfigurationError, match=r"Its inverse does: boursomatic adjustments add NVDA 2024-06-10 0\.1"
    ):
        enter_adjustment(database, "NVDA", SPLIT, 10.0, None)
    assert quarantined(database) == [("NVDA", SPLIT)]
    enter_adjustment(database, "NVDA", SPLIT, 0.1, None)
    of_split = (pl.col("symbol") == "NVDA") & (pl.col("session") == SPLIT)
    found = compute_features(read_usable_bars(database)).row(by_predicate=of_split, named=True)
    right = {"ret_1d": -0.022544, "vol_20d": 0.014439, "atr_14": 1.9188}
    assert {name: found[name] for name in right} == pytest.approx(right, abs=5e-5)
