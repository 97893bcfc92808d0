"""The cases that lie beside the checkout: each gives its right value, or its reason in words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets_tests.support.oracles import shared_file

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 1)
SECONDS_OF_A_FOLDER = 6.0


@dataclass(frozen=True)
class Right:
    """What its README says is right: bars accepted, rows rejected, and the exchange of each symbol."""

    accepted: int
    exchanges: dict[str, str]
    rejected: dict[str, int] = field(default_factory=dict)
    first: str = "2023-06-16"
    last: str = "2024-06-28"


US = dict.fromkeys(("AAPL", "MSFT"), "US")
THREE = US | {"IBM": "US"}
PLACEHOLDER = "date before 1900 or a placeholder"
RIGHT = {
    "01-auto-adjusted-rounding": Right(4500, dict.fromkeys(("KO", "PEP", "PG"), "US"), first="2018-07-13"),
    "03-yfinance-three-header-rows": Right(520, US),
    "04-quoted-thousands": Right(1040, THREE | {"NVR": "US"}),
    "05-nasdaq-export": Right(520, US),
    "07-stooq-bulk-txt": Right(520, US),
    "09-split-raw-volume": Right(520, {"MSFT": "US", "NVDA": "US"}),
    "10b-whole-file-hits-limit": Right(520, US),
    "11-utc-timestamps": Right(520, {"AIR.PA": "XPAR", "MC.PA": "XPAR"}, first="2023-06-23"),
    "12-parquet-unnamed-index": Right(260, {"AAPL": "US"}),
    "17-placeholder-dates": Right(520, US, {PLACEHOLDER: 2}),
    "18-exchange-column": Right(780, dict.fromkeys(("AIR.PA", "MC.PA", "OR.PA"), "XPAR"), first="2023-06-23"),
    "19-symbol-spelling": Right(
        780,
        {"AAPL": "US", "BRK.B": "US", "MC.PA": "XPAR", "VOD.L": "unknown"},
        {"conflicting duplicate of a symbol and session": 780},
    ),
    "20-long-symbol": Right(260, {"AAPL": "US"}, {"symbol of 68 letters; at most 50 are kept": 260}),
    "22-calendar-day-ffill": Right(780, THREE),
    "24b-semicolon-only": Right(260, {"MC.PA": "XPAR"}, first="2023-06-23"),
    "25-windows-1252": Right(520, {"AIR.PA": "XPAR", "GLE.PA": "XPAR"}, first="2023-06-23"),
    "26-preface-lines": Right(260, {"MC.PA": "XPAR"}, first="2023-06-23"),
    "30-t-o-h-l-c-v-epoch-ms": Right(260, {"AAPL": "US"}),
    "31-empty-file-among-good": Right(780, THREE),
    "33-zip": Right(520, US),
    "42-flat-rows-after-delisting": Right(1050, US | {"SIVB": "US"}, first="2022-11-23"),
    "48-code-and-name": Right(780, dict.fromkeys(("AI.PA", "MC.PA", "OR.PA"), "XPAR"), first="2023-06-23"),
    "50-repeated-headers": Right(780, THREE),
    "51-thousands-in-volume": Right(
        780, dict.fromkeys(("ALXX.PA", "ALYY.PA", "ALZZ.PA"), "XPAR"), first="2023-06-23"
    ),
}
REFUSED = {
    "02-two-digit-year-us": "expected dates such as 2024-01-31; found 6/16/23",
    "02b-two-digit-year-dayfirst": "found 16-06-23",
    "02c-two-digit-year-iso": "found 23-06-16",
    "28-dot-thousands-volume": "for volume; found '21.220'",
}


def place(case: str) -> Path:
    folder = shared_file(f"cases/{case}")
    names = ("prices.csv", "prices.parquet", "prices.csv.zip")
    return next((folder / name for name in names if (folder / name).exists()), folder)


@pytest.mark.parametrize("case", RIGHT)
def test_each_case_gives_its_right_bars(case: str) -> None:
    right, provider = RIGHT[case], FilesProvider(place(case))
    checked = check_bars(provider.bars(), today=TODAY)
    assert (checked.accepted.height, checked.reasons()) == (right.accepted, right.rejected)
    assert str(checked.accepted["session"].min()) == right.first
    assert str(checked.accepted["session"].max()) == right.last
    assert (checked.accepted["session"].dt.weekday() < 6).all()
    assert dict(provider.instruments().select("symbol", "exchange").iter_rows()) == right.exchanges


@pytest.mark.parametrize("case", REFUSED)
def test_each_case_that_can_be_read_two_ways_is_refused_with_its_value(case: str) -> None:
    with pytest.raises(SourceFileError) as caught:
        FilesProvider(place(case)).bars()
    assert REFUSED[case] in str(caught.value)


def features(case: str, symbol: str) -> pl.DataFrame:
    accepted = check_bars(FilesProvider(place(case)).bars(), today=TODAY).accepted
    return compute_features(accepted).filter(pl.col("symbol") == symbol)


def test_volumes_before_a_split_give_the_right_scores() -> None:
    found = features("09-split-raw-volume", "NVDA").filter(
        pl.col("session").is_in([date(2024, 4, 4), date(2024, 4, 5), date(2024, 4, 8)])
    )
    assert found["volume_zscore"].to_list() == pytest.approx([0.7189, 1.3610, 2.4022], abs=5e-5)


def test_filled_in_weekends_leave_the_volatility_as_it_is() -> None:
    assert features("22-calendar-day-ffill", "AAPL")["vol_20d"][-1] == pytest.approx(0.011659, abs=5e-7)


def seconds(path: Path) -> float:
    """Processor time to have all bars of a source checked and ready: the least of three times."""
    spent = []
    for _ in range(3):
        before = time.process_time()
        accepted = [check_bars(batch.bars, today=TODAY).accepted for batch in FilesProvider(path).batches()]
        spent.append(time.process_time() - before)
        assert sum(bars.height for bars in accepted) == 619_017
    return min(spent)


@pytest.mark.slow
def test_a_large_csv_file_takes_at_most_twice_the_time_of_its_parquet_and_a_folder_seconds(tmp_path: Path) -> None:
    parquet = shared_file("data/us_sp500_2013_2018.parquet")
    panel = pl.read_parquet(parquet)
    panel.write_csv(tmp_path / "prices.csv")
    (tmp_path / "folder").mkdir()
    for (symbol,), bars in panel.group_by("symbol"):
        bars.drop("symbol").write_csv(tmp_path / "folder" / f"{symbol}.csv")
    # The calendars are read once, whoever comes first.
    seconds(parquet)
    assert seconds(tmp_path / "prices.csv") <= 2 * seconds(parquet)
    assert seconds(tmp_path / "folder") < SECONDS_OF_A_FOLDER
