"""A stock that leaves the universe goes on trading: a position in it is held to its horizon."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.market.calendars import sessions_between
from boursomatic_assets.core.measures.performance import sharpe_ratio, total_return
from boursomatic_assets_tests.support.oracles import shared_file
from boursomatic_assets_tests.support.strategies import random_walk_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow


def judge(installation: Installation, members: Path, prices: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions and daily history of the books, made from memberships and prices in files."""
    ended = installation.run("universe", "members", "import", str(members))
    assert ended.code == 0, ended.said
    ended = installation.run("materialize", "--provider", "files", "--path", str(prices), "--to", "model_version")
    assert ended.code == 0, ended.said
    ended = installation.run("materialize", "--select", "baselines,portfolio,trades")
    assert ended.code == 0, ended.said
    assets = installation.artifacts / "assets"
    predictions = pl.read_parquet(assets / "predictions.parquet").filter(pl.col("set") == "test")
    return predictions, pl.read_parquet(assets / "portfolio.parquet")


def returns_of(portfolio: pl.DataFrame, book: str = "equal_weight") -> np.ndarray:
    return portfolio.filter(pl.col("book") == book)["return"].to_numpy()


def equal_weight_by_hand(calls: pl.DataFrame, closes: pl.DataFrame, horizon: int) -> list[float]:
    """Mean over tranches of the daily gain of what was called, one tranche, one session, one name at a time."""
    wide = closes.pivot("symbol", index="session", values="close").sort("session")
    days = wide["session"].to_list()
    first, last = (days.index(day) for day in (calls["session"].min(), calls["session"].max()))
    earned = dict.fromkeys(range(first + 1, min(last + horizon + 2, len(days))), 0.0)
    for place in range(first, last + 1):
        names = calls.filter(pl.col("session") == days[place])["symbol"].to_list()
        worth = 1.0
        for day in range(place + 2, min(place + 2 + horizon, len(days))):
            now = float(np.mean([wide[name][day] / wide[name][place + 1] for name in names]))
            earned[day] += (now / worth - 1) / horizon
            worth = now
    return list(earned.values())


def test_members_that_left_are_held_to_their_horizon_with_their_own_closes(
    new: Callable[[], Installation], tmp_path: Path
) -> None:
    days = sessions_between("XNYS", date(2018, 1, 1), date(2019, 1, 31))[:260]
    walks = random_walk_bars(symbols=12, sessions=260, seed=11)
    bars = walks.with_columns(pl.col("session").replace_strict(walks["session"].unique().sort(), days))
    # 220 (260 - 20 - 20) sessions have features and labels: the test set begins at 20 + 187; two leave in it
    leaves = days[222]
    bars.rename({"session": "date"}).write_csv(tmp_path / "prices.csv")
    rows = [f"W{number:03d},2018-01-01,{leaves if number < 2 else ''}" for number in range(12)]
    (tmp_path / "members.csv").write_text("\n".join(["symbol,member_from,member_until", *rows]))
    installation = new()
    predictions, portfolio = judge(installation, tmp_path / "members.csv", tmp_path / "prices.csv")
    left = predictions.filter(pl.col("symbol") == "W000")["session"].max()
    assert left == days[221]
    experiment = Experiment()
    gross = equal_weight_by_hand(predictions, bars.select("symbol", "session", "close"), experiment.horizon)
    book = portfolio.filter(pl.col("book") == "equal_weight")
    np.testing.assert_allclose(book["gross"].to_numpy()[: len(gross)], gross, rtol=0, atol=1e-12)
    assert book.height == len(gross)
    # what the labels of members do not hold is kept beside them: the version's figures can be made again
    assert len(list((installation.artifacts / "snapshots").iterdir())) == 2
    ended = installation.run("verify")
    assert ended.code == 0, ended.said


def test_the_shared_case_reads_as_its_readme_says(new: Callable[[], Installation]) -> None:
    members, prices = (shared_file(f"cases/65-member-leaves/{name}.csv") for name in ("members", "prices"))
    _, portfolio = judge(new(), members, prices)
    returns = returns_of(portfolio)
    # to the digits of the README: +0.74 %, Sharpe 0.66
    assert round(100 * total_return(returns), 2) == 0.74
    assert round(sharpe_ratio(returns), 2) == 0.66
