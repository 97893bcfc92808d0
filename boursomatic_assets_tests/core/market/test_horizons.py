"""Rows whose instrument ends or is halted within the horizon."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import (
    LABEL_TYPE,
    REALISED,
    closed_early,
    label_panel,
    labelled_rows,
    realised_rows,
    usable_rows,
)
from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.measures.performance import total_return
from boursomatic_assets.core.portfolio.books import judged_books
from boursomatic_assets.core.recommendations.outcomes import judge_outcomes
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets_tests.support.strategies import flat_bars, weekdays
from boursomatic_assets_tests.support.waiting_calls import placed_panels

if TYPE_CHECKING:
    from collections.abc import Mapping

# July 2024: the 1st is a Monday and every weekday a session in Paris.
JULY = [day for day in range(1, 32) if date(2024, 7, day).weekday() < 5]
MARKETS = ("XPAR", "unknown", None)
THREE_SESSIONS = Experiment(horizon=3, features=("ret_1d",))


def july(day: int) -> date:
    return date(2024, 7, day)


def closes_of(exchange: str | None, **paths: Mapping[int, float]) -> pl.DataFrame:
    rows = [(symbol, july(day), close, exchange) for symbol, own in paths.items() for day, close in own.items()]
    schema = {"symbol": pl.String, "session": pl.Date, "close": pl.Float64, "exchange": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").sort(PANEL_KEY)


def panel_of(closes: pl.DataFrame, horizon: int = 3) -> pl.DataFrame:
    settings = Experiment(horizon=horizon, features=("ret_1d",))
    return label_panel(closes.select(*PANEL_KEY, ret_1d=pl.lit(0.0)), closes, settings)


def realised(closes: pl.DataFrame, horizon: int = 3, symbol: str = "AAA") -> list[tuple[int, float, int | None]]:
    """Day, realised return in percent and day on which the horizon ended, of each judged row."""
    rows = realised_rows(panel_of(closes, horizon), Experiment(horizon=horizon, features=("ret_1d",)))
    own = rows.filter(symbol=symbol).select("session", "forward_return", "label_end")
    return [(session.day, round(100 * gain, 9), end.day) for session, gain, end in own.rows()]


def steady(until: int = 31, since: int = 1, price: float = 50.0) -> dict[int, float]:
    return dict.fromkeys([day for day in JULY if since <= day <= until], price)


def halted(exchange: str, again: int) -> pl.DataFrame:
    """AAA closes at 10 on the 1st and at 5 from a later day on; BBB trades all the time."""
    return closes_of(exchange, AAA={1: 10.0} | steady(since=again, price=5.0), BBB=steady())


@pytest.mark.parametrize("exchange", MARKETS)
def test_realised_rows_close_an_ended_instrument_at_its_last_price(exchange: str | None) -> None:
    closes = closes_of(exchange, AAA={1: 10.0, 2: 8.0, 3: 4.0}, BBB=steady())
    # three sessions after the 1st, 2nd and 3rd are the 4th, the 5th and Monday the 8th; the last close is 4
    assert realised(closes) == [(1, -60.0, 4), (2, -50.0, 5), (3, 0.0, 8)]
    panel = panel_of(closes).filter(symbol="AAA")
    # nothing is learned from them
    assert panel["label"].is_null().all()
    assert panel["forward_return"].is_null().all()


@pytest.mark.parametrize("exchange", MARKETS)
def test_realised_rows_are_labelled_by_their_realised_return(exchange: str | None) -> None:
    closes = closes_of(exchange, AAA={1: 10.0, 2: 8.0, 3: 4.0}, BBB=steady(), CCC={1: 10.0, 2: 10.4, 3: 10.5})
    rows = realised_rows(panel_of(closes), THREE_SESSIONS)
    early = rows.filter("ended_early").select("symbol", pl.col("session").dt.day(), pl.col("label").cast(pl.String))
    # -60 %, -50 %, 0; then 5 %, 10.5 / 10.4 - 1 = 1 %, 0
    assert early.rows() == [
        ("AAA", 1, "SELL"), ("AAA", 2, "SELL"), ("AAA", 3, "HOLD"),
        ("CCC", 1, "BUY"), ("CCC", 2, "HOLD"), ("CCC", 3, "HOLD"),
    ]  # fmt: skip
    assert rows.schema["label"] == LABEL_TYPE
    assert not set(REALISED) & set(rows.columns)
    assert closed_early(rows) == {"rows": 6, "symbols": ["AAA", "CCC"]}
    # of BBB all but the last three, whose horizon has not passed
    assert rows.filter(symbol="BBB").height == len(JULY) - 3


@pytest.mark.parametrize("exchange", MARKETS)
@pytest.mark.parametrize(("newest", "known"), [(9, False), (10, True)])
def test_an_instrument_ends_after_five_sessions_without_a_bar(
    exchange: str | None,
    newest: int,
    known: bool,  # noqa: FBT001
) -> None:
    # five sessions after Wednesday the 3rd is Wednesday the 10th: before it a bar may only be late
    closes = closes_of(exchange, AAA={1: 10.0, 2: 8.0, 3: 4.0}, BBB=steady(newest))
    assert bool(realised(closes)) == known


@pytest.mark.parametrize("exchange", MARKETS)
def test_realised_rows_leave_out_open_horizons(exchange: str | None) -> None:
    # it ends on Wednesday the 24th; 25th, 26th, 29th, 30th, 31st are five sessions: it has ended
    closes = closes_of(exchange, AAA=steady(23) | {24: 25.0}, BBB=steady())
    judged = realised(closes, horizon=6)
    # six sessions after Tuesday the 23rd is Wednesday the 31st, the newest; after the 24th nothing is known
    assert judged[-1] == (23, -50.0, 31)
    assert [day for day, _, _ in realised(closes, 6, "BBB")][-1] == 23


def test_a_halt_longer_than_the_horizon_closes_at_the_last_price() -> None:
    # no bar from the 2nd to the 5th: three sessions after the 1st, on the 4th, the last close is still 10
    closes = halted("XPAR", 8)
    assert realised(closes)[:2] == [(1, 0.0, 4), (8, 0.0, 11)]
    first = panel_of(closes).filter(symbol="AAA").row(0, named=True)
    assert (first["label"], first["realised_return"], first["realised_on"]) == (None, 0.0, july(4))


def test_a_halt_within_the_horizon_does_not_count() -> None:
    closes = halted("XPAR", 4)
    rows = realised_rows(panel_of(closes), THREE_SESSIONS).filter(symbol="AAA")
    assert realised(closes)[0] == (1, -50.0, 4)
    assert not rows["ended_early"].any()


def test_a_halt_without_a_calendar_makes_the_horizon_longer() -> None:
    # the third own bar after the 1st is Wednesday the 10th
    assert realised(halted("unknown", 8))[0] == (1, -50.0, 10)


def test_an_exchange_without_a_calendar_counts_its_own_sessions() -> None:
    closes = pl.concat([
        closes_of("unknown", AAA={1: 10.0, 2: 8.0, 3: 4.0}, CCC=steady(4)), closes_of("XPAR", BBB=steady()),
    ]).sort(PANEL_KEY)  # fmt: skip
    # Paris went on to the 31st; of the exchange of AAA nothing is known after the 4th
    assert realised(closes) == []


def test_a_horizon_without_a_calendar_ends_no_earlier_than_its_exit() -> None:
    # five own bars, the last on the 22nd; five sessions of its exchange after the 1st is the 8th
    own = {1: 10.0, 8: 10.0, 15: 10.0, 16: 10.0, 22: 20.0}
    closes = closes_of("unknown", AAA=own, BBB=steady(), CCC=steady())
    assert realised(closes, horizon=5)[0] == (1, 100.0, 22)


def test_an_instrument_before_1960_ends_by_the_sessions_of_its_exchange() -> None:
    days = [date(1955, 3, day) for day in range(1, 31) if date(1955, 3, day).weekday() < 5]
    rows = [("AAA", day, price, "XNYS") for day, price in zip(days, [10.0, 5.0], strict=False)]
    rows += [("BBB", day, 1.0, "XNYS") for day in days]
    schema = {"symbol": pl.String, "session": pl.Date, "close": pl.Float64, "exchange": pl.String}
    panel = panel_of(pl.DataFrame(rows, schema=schema, orient="row").sort(PANEL_KEY))
    first = panel.row(0, named=True)
    assert (first["realised_return"], first["realised_on"]) == (-0.5, days[3])


def test_realised_rows_of_an_older_panel_are_the_labelled_ones() -> None:
    closes = closes_of("XPAR", AAA={1: 10.0, 2: 8.0, 3: 4.0}, BBB=steady())
    old = panel_of(closes).drop(REALISED)
    assert realised_rows(old, THREE_SESSIONS).drop("ended_early").equals(labelled_rows(old))
    assert usable_rows(old).equals(labelled_rows(old))
    assert closed_early(old) == {"rows": None, "symbols": None}


@given(placed_panels(), st.integers(1, 6))
def test_realised_rows_agree_with_outcomes(bars: pl.DataFrame, horizon: int) -> None:
    placed = bars.filter(pl.col("exchange").is_in(["XNYS", "XPAR"]))
    try:
        panel = panel_of(placed, horizon)
    except NotEnoughHistoryError:
        return
    rows = realised_rows(panel, Experiment(horizon=horizon, features=("ret_1d",)))
    early = rows.filter("ended_early")
    calls = early.join(placed.select(*PANEL_KEY, "exchange"), on=PANEL_KEY).select(
        *PANEL_KEY, "exchange", "close", id=pl.concat_str("symbol", pl.col("session").cast(pl.String)),
        profile=pl.lit("moderate"), label=pl.lit("HOLD"), stop_loss=pl.lit(None, pl.Float64),
        take_profit=pl.lit(None, pl.Float64), horizon_days=pl.lit(horizon), confidence=pl.lit(0.5),
        buy_threshold=pl.lit(0.05), sell_threshold=pl.lit(-0.02),
    )  # fmt: skip
    outcomes = judge_outcomes(calls, placed)
    assert outcomes.height == early.height
    assert set(outcomes["ended"]) <= {"stopped trading"}
    found = dict(outcomes.select("recommendation_id", "realised_return").rows())
    assert found == dict(zip(calls["id"], early["forward_return"], strict=True))


def test_equal_weight_includes_losses_of_ended_instruments() -> None:
    # B falls by 60 % on its last bar, within three sessions of its first
    bars = flat_bars({"A": [10.0] * 14, "B": [10.0, 10.0, 4.0]})
    settings = Experiment(horizon=3, features=("ret_1d",), cost_bps=0.0)
    panel = label_panel(bars.select(*PANEL_KEY, ret_1d=pl.lit(0.0)), bars, settings)
    judged = realised_rows(panel, settings).with_columns(
        call=pl.lit("HOLD", LABEL_TYPE), volatility_probability_buy=pl.lit(0.5), momentum_12_1=pl.lit(0.0)
    )
    book = judged_books(judged, bars, 3, 0.0)["equal_weight"]
    days = weekdays(14)
    # a third of the capital goes into A and B at session 1 and holds (10 + 4) / 20 = 0.7 of it at session 2
    assert book.gross[1] == pytest.approx(-0.3 / 3, rel=1e-12)
    assert total_return(book.gross) == pytest.approx(-0.1, rel=1e-12)
    # called at 0, 1 and 2, filled a session later
    assert book.exits.rows() == [("B", day, days[2]) for day in days[1:4]]
    # with labelled rows alone the loss is not there
    known = judged.filter(~pl.col("ended_early"))
    assert total_return(judged_books(known, bars, 3, 0.0)["equal_weight"].gross) == 0.0


def long_panel() -> tuple[pl.DataFrame, Experiment]:
    """Ten instruments over 60 sessions: two end within the validation span, one within the test span."""
    paths: dict[str, list[float | None]] = {f"S{number}": [10.0 + number] * 60 for number in range(7)}
    # 57 sessions have labels: 40 (39.9) to train on, 40 to 47 to validate on (48.45), 48 to 56 to test on
    paths |= {"V0": [10.0] * 43 + [5.0], "V1": [10.0] * 46 + [5.0], "T0": [10.0] * 51 + [5.0]}
    bars = flat_bars({name: path + [None] * (60 - len(path)) for name, path in paths.items()})
    return label_panel(bars.select(*PANEL_KEY, ret_1d=pl.lit(0.0)), bars, THREE_SESSIONS), THREE_SESSIONS


def test_judged_sets_add_rows_that_ended_early() -> None:
    labels, settings = long_panel()
    split, days = split_panel(labels, settings), weekdays(60)
    sets = {"validation": split.validation, "test": split.test}
    judged = judged_sets(sets, labels, settings)
    assert (split.validation["session"].min(), split.test["session"].min()) == (days[40], days[48])
    for name, rows in sets.items():
        assert rows["label"].null_count() == 0
        assert judged[name].filter(~pl.col("ended_early")).select(PANEL_KEY).equals(rows.select(PANEL_KEY))
        assert judged[name].select(PANEL_KEY).equals(judged[name].select(PANEL_KEY).sort(PANEL_KEY))
    early = {
        name: rows.filter("ended_early").select("symbol", pl.col("session").replace_strict(days, range(60))).rows()
        for name, rows in judged.items()
    }
    # V0's last bar is 43: from 41 on its horizon outlives it. V1's is 46: the horizon of 44 ends at 47, those of 45
    # and 46 at 48 and 49, in the test set: purged. T0's is 51.
    assert early["validation"] == [("V0", 41), ("V0", 42), ("V0", 43), ("V1", 44)]
    assert early["test"] == [("T0", 49), ("T0", 50), ("T0", 51)]
    # training rows are as they were: with a label
    assert split.train["label"].null_count() == 0


def test_judged_sets_are_purged_by_the_embargo() -> None:
    labels, settings = long_panel()
    settings = settings.model_copy(update={"embargo": 2})
    split = split_panel(labels, settings)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, settings)
    # known before session 46: of V0 the rows that end at 44 and 45, of V1 none, whose first ends at 47
    assert judged["validation"].filter("ended_early")["symbol"].to_list() == ["V0", "V0"]


def test_a_row_on_a_stray_day_is_in_no_set() -> None:
    days = weekdays(40)
    saturday = date(2018, 1, 20)
    closes = flat_bars({f"S{number:02d}": [10.0] * 40 for number in range(40)}).select(*PANEL_KEY, "close")
    stray = pl.DataFrame({"symbol": ["S07"], "session": [saturday], "close": [10.0]})
    labels = panel_of(pl.concat([closes, stray]).sort(PANEL_KEY))
    # it keeps its row and its label, which no set has
    assert labels.filter(session=saturday)["label"].to_list() == ["HOLD"]
    assert labels.filter(session=saturday)["realised_return"].to_list() == [None]
    assert saturday not in realised_rows(labels, THREE_SESSIONS)["session"].to_list()
    split = split_panel(labels, THREE_SESSIONS)
    kept = pl.concat([split.train, split.validation, split.test])
    assert saturday not in kept["session"].to_list()
    # 37 labelled sessions: 26 (25.9), 5 (31.45) and 6
    assert split.validation["session"].min() == days[26]
    assert split.test["session"].min() == days[31]
