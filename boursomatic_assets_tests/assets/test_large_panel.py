"""The S&P 500 panel, 619,040 real bars, from the file to an active model through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from boursomatic_assets.core.evaluation.plausibility import implausible_figures, impossible_figures
from boursomatic_assets_tests.support.installation import BOURSOMATIC, new_installation
from boursomatic_assets_tests.support.oracles import shared_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

GIGABYTE = 1e9
ISOLATED = "isolated price: far from the sessions before and after"
# Symbols that lie 14 to 37 % off for one session on the usual volume and come back: the source had another stock's.
WRONG = {
    ("EQT", "2017-09-14"), ("FLR", "2017-09-14"), ("MPC", "2017-09-14"), ("MRK", "2017-09-14"),
    ("MRO", "2017-09-14"), ("NWL", "2017-09-14"), ("O", "2013-12-20"),
}  # fmt: skip
# Spin-offs and special dividends that the source left in its prices. Found by their step and their volume.
JUMPS = [
    ("A", "2014-11-03"),  # Keysight
    ("BAX", "2015-07-01"),  # Baxalta
    ("BHGE", "2017-07-05"),  # the merger's special dividend
    ("DISCA", "2014-08-07"),  # a dividend in shares of its class C
    ("DISCK", "2014-08-07"),
    ("EBAY", "2015-07-20"),  # PayPal
    ("HPE", "2017-04-03"),  # DXC
    ("HPE", "2017-09-01"),  # Micro Focus
    ("IR", "2013-12-02"),  # Allegion
    ("KLAC", "2014-11-26"),  # a special dividend of 16.50
    ("NI", "2015-07-02"),  # Columbia
    ("SYMC", "2016-03-04"),  # a special dividend of 4
    ("VNO", "2017-07-18"),  # JBG Smith
    ("YUM", "2016-11-01"),  # Yum China
]


@dataclass(frozen=True)
class Trained:
    """What a run on the panel left, and the largest memory its process took, in bytes."""

    installation: Installation
    code: int
    said: str
    peak: float


@pytest.fixture(scope="module")
def source() -> Path:
    return shared_file("data/us_sp500_2013_2018.parquet")


@pytest.fixture(scope="module")
def trained(source: Path) -> Iterator[Trained]:
    with new_installation() as installation, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [BOURSOMATIC, "materialize", "--provider", "files", "--path", str(source)],
            env=installation.environment({}),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        # Linux counts the largest resident memory in kilobytes.
        yield Trained(installation, process.returncode, said.read(), usage.ru_maxrss * 1024)


@pytest.fixture(scope="module")
def figures(trained: Trained) -> dict[str, float]:
    (row,) = trained.installation.versions()
    return {name: value for name, value in row.metrics.items() if isinstance(value, float)}


def test_the_panel_becomes_an_active_model_in_less_than_two_gigabytes(trained: Trained) -> None:
    assert trained.code == 0, trained.said
    trained.installation.verify()
    assert len(trained.installation.versions()) == 1
    assert trained.peak < 2 * GIGABYTE


def test_every_row_of_the_file_is_in_the_database_or_explained(trained: Trained, source: Path) -> None:
    bars = pd.read_parquet(source)
    prices = bars[["open", "high", "low", "close"]]
    missing = bars[["open", "high", "low", "close", "volume"]].isna().any(axis=1)
    high = ~missing & (bars["high"] < prices.max(axis=1))
    low = ~missing & ~high & (bars["low"] > prices.min(axis=1))
    expected = {
        "null price or volume": keys(bars[missing]),
        "high below low, open or close": keys(bars[high]),
        "low above open or close": keys(bars[low]),
        ISOLATED: WRONG,
    }
    # The defects that the file is known for: 11 rows without a price, one high below its low, and the half price of
    # LNT. Beside them the prices that come back the day after.
    assert [len(rows) for rows in expected.values()] == [11, 1, 11, 7]
    assert ("LNT", "2016-05-19") in expected["low above open or close"]

    found: dict[str, set[tuple[str, str]]] = {}
    for reason, symbol, session, copies in trained.installation.ask(
        "SELECT reason, symbol, session::text, copies FROM rejected_bars"
    ):
        found.setdefault(reason, set()).add((symbol, session))
        assert copies == 1
    assert found == expected
    # 619,040 rows less 11 + 1 + 11 + 7
    assert trained.installation.ask("SELECT count(*) FROM price_bars") == [(619_010,)]
    assert trained.installation.ask("SELECT count(*) FROM instruments") == [(bars["symbol"].nunique(),)]


def test_symbols_with_a_jump_that_nothing_explains_have_bars_and_no_features(trained: Trained) -> None:
    found = trained.installation.ask("SELECT symbol, session::text FROM unexplained_jumps ORDER BY 1, 2")
    assert found == JUMPS
    # 1,259 sessions of eleven of them, 152 of BHGE and 581 of HPE: 619,010 - 14,582 = 604,428
    assert trained.installation.ask("SELECT count(*) FROM features") == [(604_428,)]
    assert "check failed jumps_are_explained of price_bars" in trained.said


def keys(bars: pd.DataFrame) -> set[tuple[str, str]]:
    return {(row.symbol, str(row.date)) for row in bars.itertuples()}


def test_known_long_gaps_are_warned_of_and_stop_nothing(trained: Trained, source: Path) -> None:
    days = pd.read_parquet(source).dropna().assign(date=lambda bars: pd.to_datetime(bars["date"]))
    gaps = days.sort_values(["symbol", "date"]).groupby("symbol")["date"].diff().dt.days
    assert (gaps > 10).sum() == 3
    assert "check failed sessions_have_no_long_gaps of price_bars" in trained.said


def test_figures_are_possible_and_none_is_too_good_but_the_lifts(
    trained: Trained, figures: dict[str, float]
) -> None:
    # The calls are few and volatile: 3,982 and 3,411 on 8 and 9 independent horizons. Their lift at equal vol_20d
    # lies beyond the bound in both years, since natr_14 knows of volatility what vol_20d does not. Nothing else is
    # beyond a bound, and the warning is printed.
    assert impossible_figures(figures) == {}
    lifts = {f"{kind}_{name}" for kind in ("lift_buy", "matched_lift_buy") for name in ("val", "test")}
    assert set(implausible_figures(figures)) <= lifts
    assert "check failed figures_are_plausible of metrics" in trained.said


@pytest.mark.parametrize("name", ["val", "test"])
def test_figures_lie_in_the_bands_for_large_caps(figures: dict[str, float], name: str) -> None:
    # Accuracy 0 to 5 points over the majority class, below it reported as it is; R² -3 % to +0.5 %.
    assert -0.05 < figures[f"{name}_accuracy"] - figures[f"{name}_majority_accuracy"] < 0.05
    assert -0.03 < figures[f"{name}_r2_over_prior"] < 0.005
    # Raw lifts of 1.69 and 1.51, matched by vol_20d 1.31 and 1.20: see the test above. A lift beyond these would be
    # more than volatility explains.
    assert 1.0 < figures[f"lift_buy_{name}"] < 1.8
    assert 0.97 < figures[f"matched_lift_buy_{name}"] < 1.4


def test_the_record_of_skill_lies_in_the_bands_and_the_report_is_written(trained: Trained) -> None:
    # Out of eight folds, 2015 to 2018: rank IC at most 0.03, R² -3 % to
    # +0.5 %, a long-short Sharpe ratio of at most 0.7. Below the bands it is reported as it is.
    stored = json.loads((trained.installation.artifacts / "assets" / "walk_forward_summary.json").read_text())
    record = stored["value"]
    figures = {figure["name"]: figure["value"] for figure in record["figures"]}
    assert record["sessions"] > 700
    assert len(record["folds"]) == 8
    assert -0.06 < figures["rank_ic"] < 0.03
    # Matched by vol_20d the lift is 1.12, beyond 1.08, which the remarks say. Within the session, among names alike
    # in p(HOLD), it is 1.02 and not significant.
    matched = next(figure for figure in record["figures"] if figure["name"] == "matched_lift_buy")
    assert matched["low"] < 1 < matched["value"] < 1.2
    assert any("BUY lift at equal volatility" in remark for remark in record["verdict"]["remarks"])
    assert 0.98 < figures["selection_lift_buy"] < 1.03
    assert -0.03 < figures["r2_over_prior"] < 0.005
    assert -2.0 < figures["long_short_sharpe_ratio"] < 0.7
    assert record["verdict"]["sentence"].startswith("No evidence of skill")
    page = (trained.installation.artifacts / "reports" / "report.html").read_text()
    assert record["verdict"]["sentence"].split(":")[0] in page
    assert "Report: " in trained.said


def test_errors_of_the_forecast_are_about_the_deviation_of_the_returns_themselves(
    trained: Trained, figures: dict[str, float]
) -> None:
    # What makes RMSE plausible or not in these two calm years: how much 20-session returns vary at all.
    for name, asset in (("val", "validation_set"), ("test", "test_set")):
        panel = pd.read_parquet(trained.installation.artifacts / "assets" / f"{asset}.parquet")
        deviation = float(np.std(panel["forward_return"]))
        assert figures[f"{name}_rmse"] == pytest.approx(deviation, rel=0.03)
        assert 0.05 < deviation < 0.09
