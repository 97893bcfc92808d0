from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features
from boursomatic_assets.core.dataset.labels import (
    CLASS_NAMES,
    LABEL_TYPE,
    REALISED,
    label_mix,
    label_panel,
    labelled_rows,
    unlabelled_rows,
)
from boursomatic_assets.core.market.bars import PANEL_KEY, check_bars
from boursomatic_assets.errors import NotEnoughHistoryError, PanelContractError
from boursomatic_assets_tests.support.strategies import (
    bar_panels,
    flat_bars,
    random_walk_bars,
    weekdays,
    with_other_future,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TWO_SESSIONS = Experiment(horizon=2, features=("ret_1d",))


def features_for(bars: pl.DataFrame) -> pl.DataFrame:
    """A row of one feature per bar, which no label reads."""
    return bars.select(*PANEL_KEY, ret_1d=pl.lit(0.0))


def labels_of(experiment: Experiment = TWO_SESSIONS, **closes: Sequence[float | None]) -> pl.DataFrame:
    bars = flat_bars(closes)
    return label_panel(features_for(bars), bars, experiment)


def test_label_panel_by_hand() -> None:
    # two sessions ahead: 106/100 - 1 = 0.06 BUY; 97/100 - 1 = -0.03 SELL; 104/106 - 1 = -2/106 HOLD; then unknown
    labels = labels_of(AAA=[100.0, 100.0, 106.0, 97.0, 104.0])
    assert labels["label"].to_list() == ["BUY", "SELL", "HOLD", None, None]
    gains = [0.06, -0.03, -2 / 106]
    assert labels["forward_return"].to_list() == [*(pytest.approx(gain, rel=1e-12) for gain in gains), None, None]
    sessions = weekdays(5)
    assert labels["label_end"].to_list() == [*sessions[2:], None, None]
    assert labels["close"].to_list() == [100.0, 100.0, 106.0, 97.0, 104.0]


@pytest.mark.parametrize(
    ("after", "threshold", "label"),
    [
        # powers of two make both returns exact: 5/4 - 1 = 0.25 and 3/4 - 1 = -0.25
        (125.0, 0.25, "BUY"),
        (75.0, 0.25, "SELL"),
        # at the default thresholds 105 / 100 - 1 is +5 %, 98 / 100 - 1 is -2 %; a cent inside each lies HOLD
        (105.0, None, "BUY"),
        (104.99, None, "HOLD"),
        (98.01, None, "HOLD"),
        (98.0, None, "SELL"),
    ],
)
def test_label_panel_at_a_threshold(after: float, threshold: float | None, label: str) -> None:
    bounds = {"buy_threshold": threshold, "sell_threshold": -threshold} if threshold else {}
    experiment = Experiment.parse({"horizon": 1, "features": ["ret_1d"]} | bounds)
    assert labels_of(experiment, AAA=[100.0, after])["label"].to_list() == [label, None]


def test_label_panel_counts_the_instruments_own_sessions() -> None:
    # AAA has no bar on the third weekday: two of its sessions after the first weekday is the fourth
    labels = labels_of(AAA=[100.0, 100.0, None, 110.0], BBB=[50.0, 50.0, 50.0, 60.0])
    sessions = weekdays(4)
    first = labels.filter(pl.col("session") == sessions[0])
    assert first["label_end"].to_list() == [sessions[3], sessions[2]]
    assert first["label"].to_list() == ["BUY", "HOLD"]


def test_label_panel_never_runs_into_the_next_instrument() -> None:
    labels = labels_of(AAA=[100.0, 100.0, 100.0], BBB=[500.0, 500.0, 500.0])
    assert labels["label"].to_list() == ["HOLD", None, None, "HOLD", None, None]


def test_label_panel_needs_features_and_a_close_of_a_session() -> None:
    bars = flat_bars({"AAA": [100.0, 100.0, 100.0, 110.0]})
    labels = label_panel(features_for(bars)[1:], bars, TWO_SESSIONS)
    # the horizon counts the session without features too
    assert labels["session"].to_list() == weekdays(4)[1:]
    assert labels["label"].to_list() == ["BUY", None, None]
    without_close = label_panel(features_for(bars), bars[1:], TWO_SESSIONS)
    assert without_close["session"].to_list() == weekdays(4)[1:]


def test_label_panel_columns() -> None:
    bars = random_walk_bars(symbols=1, sessions=30, seed=0)
    experiment = Experiment(horizon=5, features=("vol_20d", "ret_1d"))
    labels = label_panel(compute_features(bars), bars, experiment)
    assert labels.columns == [
        "symbol", "session", "close", "vol_20d", "ret_1d", "forward_return", "label_end", "label",
        "realised_return", "realised_on",
    ]  # fmt: skip
    assert labels.schema["label"] == LABEL_TYPE
    assert labels.schema["label_end"] == pl.Date()
    assert CLASS_NAMES == ("BUY", "HOLD", "SELL")


def test_labelled_and_unlabelled_rows_are_the_whole_panel() -> None:
    labels = labels_of(AAA=[100.0] * 5, BBB=[100.0] * 3)
    # each instrument's last two sessions have no outcome yet: 5 - 2 and 3 - 2 rows have one
    assert labelled_rows(labels).height == 4
    newest = unlabelled_rows(labels)
    assert newest["session"].to_list() == [*weekdays(5)[3:], *weekdays(3)[1:]]
    assert newest.select("forward_return", "label_end", "label").null_count().row(0) == (4, 4, 4)


def test_label_mix_counts_labelled_rows_by_class() -> None:
    # 106/100 BUY, 100/100 HOLD, 106/106 HOLD, then two without outcome; no SELL
    mix = label_mix(labels_of(AAA=[100.0, 100.0, 106.0, 100.0, 106.0]))
    assert list(mix.items()) == [("BUY", 1), ("HOLD", 2), ("SELL", 0)]


def test_label_panel_refuses_too_few_sessions() -> None:
    with pytest.raises(NotEnoughHistoryError) as caught:
        labels_of(AAA=[100.0, 100.0])
    assert "2 more sessions after them; of 2 bars none has both" in str(caught.value)
    assert "boursomatic materialize" in str(caught.value)
    assert labelled_rows(labels_of(AAA=[100.0, 100.0, 100.0])).height == 1
    bars = flat_bars({"AAA": [100.0] * 5})
    with pytest.raises(NotEnoughHistoryError):
        label_panel(features_for(bars).head(0), bars, TWO_SESSIONS)


def test_label_panel_needs_panels() -> None:
    bars = flat_bars({"AAA": [100.0] * 5})
    with pytest.raises(PanelContractError, match=r"missing \['ret_1d'\]"):
        label_panel(features_for(bars).drop("ret_1d"), bars, TWO_SESSIONS)
    with pytest.raises(PanelContractError, match=r"missing \['close'\]"):
        label_panel(features_for(bars), bars.drop("close"), TWO_SESSIONS)
    with pytest.raises(PanelContractError, match="sorted"):
        label_panel(features_for(bars).reverse(), bars, TWO_SESSIONS)
    with pytest.raises(PanelContractError, match="sorted"):
        label_panel(features_for(bars), bars.reverse(), TWO_SESSIONS)


# In the summer of 2024 New York was closed on 19 June, 4 July and 2 September, Euronext on no weekday.
SUMMER = [date(2024, 6, 3) + timedelta(days) for days in range(100)]
WEEKDAYS = [day for day in SUMMER if day.weekday() < 5]
NEW_YORK = [day for day in WEEKDAYS if day not in {date(2024, 6, 19), date(2024, 7, 4), date(2024, 9, 2)}]
SESSIONS = {"XNYS": NEW_YORK, "NASDAQ": NEW_YORK, "XPAR": WEEKDAYS, "XAMS": WEEKDAYS}


def july(*days: int) -> list[date]:
    return [date(2024, 7, day) for day in days]


def listed_on(exchange: str | None, closes: Mapping[date, float], symbol: str = "AAA") -> pl.DataFrame:
    rows = [(symbol, session, close, exchange) for session, close in sorted(closes.items())]
    schema = {"symbol": pl.String, "session": pl.Date, "close": pl.Float64, "exchange": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def label_closes(closes: pl.DataFrame, horizon: int = 2) -> pl.DataFrame:
    return label_panel(features_for(closes), closes, Experiment(horizon=horizon, features=("ret_1d",)))


@pytest.mark.parametrize(
    ("exchange", "horizon", "closes", "expected"),
    [
        # Tuesday the 2nd: New York's next but one is Friday the 5th, Thursday being a holiday; Paris's is Thursday
        ("XNYS", 2, {1: 10, 2: 10, 3: 10, 5: 11, 8: 12}, [(3, 0.0, "HOLD"), (5, 0.1, "BUY"), (8, 0.2, "BUY")]),
        ("XPAR", 2, {1: 10, 2: 10, 3: 10, 4: 9, 5: 8}, [(3, 0.0, "HOLD"), (4, -0.1, "SELL"), (5, -0.2, "SELL")]),
        # no bar on Wednesday the 3rd, two sessions after Monday: Tuesday's 11 counts; from Tuesday 15 / 11 - 1
        ("Euronext Paris", 2, {1: 10, 2: 11, 4: 15, 5: 20}, [(3, 0.1, "BUY"), (4, 4 / 11, "BUY")]),
        # no bar from the 2nd to the 5th: two sessions after Monday the 1st nobody knew another price
        ("XPAR", 2, {1: 10, 8: 5, 9: 5, 10: 5}, [None, (10, 0.0, "HOLD")]),
        # nothing follows the last bar, though the exchange goes on
        ("XPAR", 2, {1: 10, 2: 10, 3: 5}, [(3, -0.5, "SELL")]),
        # Sunday the 7th: one session on is Monday, as from Friday the 5th
        ("XPAR", 1, {5: 10, 7: 10, 8: 11, 9: 12}, [(8, 0.1, "BUY"), (8, 0.1, "BUY"), (9, 1 / 11, "BUY")]),
    ],
    ids=["holiday", "no holiday", "missing end", "suspension", "last bar", "stray bar"],
)
def test_label_panel_counts_sessions_of_the_exchange(
    exchange: str, horizon: int, closes: dict[int, float], expected: list[tuple[int, float, str] | None]
) -> None:
    own = listed_on(exchange, {date(2024, 7, day): float(close) for day, close in closes.items()})
    other = listed_on("XPAR", dict.fromkeys(july(1, 2, 3, 4, 5, 8, 9, 10), 10.0), "BBB")
    labels = label_closes(pl.concat([own, other]), horizon).filter(symbol="AAA")
    found = [
        None if end is None else (end.day, pytest.approx(gain, rel=1e-9), label)
        for end, gain, label in labels.select("label_end", "forward_return", "label").rows()
    ]
    # the newest rows have neither
    assert found == [*expected, *[None] * (len(closes) - len(expected))]
    without_end = labels.filter(pl.col("label_end").is_null())
    assert without_end.select("forward_return", "label").null_count().row(0) == (found.count(None),) * 2


@pytest.mark.parametrize("exchange", ["XLON", "unknown", None])
def test_label_panel_counts_own_bars_without_a_calendar(exchange: str | None) -> None:
    closes = listed_on(exchange, dict(zip(july(1, 3, 6, 8), [10.0, 11.0, 12.0, 13.0], strict=True)))
    known = listed_on("XNYS", dict.fromkeys(july(1, 2, 3, 5, 8), 10.0), "BBB")
    labels = label_closes(pl.concat([closes, known]))
    assert labels.filter(pl.col("symbol") == "AAA")["label_end"].to_list() == [*july(6, 8), None, None]
    assert labels.filter(pl.col("symbol") == "BBB")["label_end"].to_list() == [*july(3, 5, 8), None, None]
    assert labels.select(PANEL_KEY).equals(pl.concat([closes, known]).select(PANEL_KEY))


@st.composite
def panels_with_exchanges(draw: st.DrawFn, *, gaps: bool, strays: bool) -> pl.DataFrame:
    """Closes of up to three instruments on the sessions of their exchanges, some missing, some on other days."""
    pieces = []
    for symbol in ("AAA", "BBB", "CCC")[: draw(st.integers(1, 3))]:
        exchange = draw(st.sampled_from(sorted(SESSIONS)))
        sessions = SESSIONS[exchange]
        start = draw(st.integers(0, 10))
        days = set(sessions[start : start + draw(st.integers(12, 40))])
        if gaps:
            days -= draw(st.sets(st.sampled_from(sorted(days)), max_size=10))
        if strays:
            days |= draw(st.sets(st.sampled_from([day for day in SUMMER[:70] if day not in sessions]), max_size=3))
        paths = st.lists(st.floats(50, 200), min_size=len(days), max_size=len(days))
        pieces.append(listed_on(exchange, dict(zip(sorted(days), draw(paths), strict=True)), symbol))
    return pl.concat(pieces)


@given(panels_with_exchanges(gaps=False, strays=False), st.integers(1, 10))
def test_label_panel_by_calendar_agrees_with_complete_bars(closes: pl.DataFrame, horizon: int) -> None:
    # whether an exchange went on without an instrument its own bars cannot say
    by_bars = label_closes(closes.drop("exchange"), horizon).drop(REALISED)
    assert label_closes(closes, horizon).drop(REALISED).equals(by_bars)


@given(panels_with_exchanges(gaps=True, strays=True), st.integers(1, 10))
def test_label_panel_by_calendar_agrees_with_a_loop(closes: pl.DataFrame, horizon: int) -> None:
    expected = []
    for row in closes.iter_rows(named=True):
        sessions = SESSIONS[row["exchange"]]
        end = [day for day in sessions if day > row["session"]][horizon - 1]
        own = closes.filter(pl.col("symbol") == row["symbol"])
        path = dict(own.select("session", "close").iter_rows())
        later = [day for day in path if row["session"] < day <= end]
        known = end <= max(path) and later
        outcome = (path[max(later)] / row["close"] - 1, end) if known else (None, None)
        expected.append((row["symbol"], row["session"], *outcome))
    if all(outcome is None for *_, outcome in expected):
        with pytest.raises(NotEnoughHistoryError):
            label_closes(closes, horizon)
        return
    labels = label_closes(closes, horizon)
    assert labels.select(*PANEL_KEY, "forward_return", "label_end").rows() == expected
    assert labels["label"].is_null().equals(labels["label_end"].is_null())


@given(panels_with_exchanges(gaps=True, strays=True), st.integers(1, 5), st.data())
def test_label_panel_by_calendar_never_changes_with_the_future(
    closes: pl.DataFrame, horizon: int, data: st.DataObject
) -> None:
    # one instrument has a bar in every session, so that some labels are always known
    steady = listed_on("XPAR", dict.fromkeys(WEEKDAYS[:40], 10.0), "ZZZ")
    closes = pl.concat([closes, steady])
    present = data.draw(st.sampled_from(WEEKDAYS[6:40]), label="present")
    then = labelled_rows(label_closes(closes.filter(pl.col("session") <= present), horizon))
    now = labelled_rows(label_closes(closes, horizon)).filter(pl.col("label_end") <= present)
    assert then.equals(now.join(then, on=PANEL_KEY, how="semi", maintain_order="left"))
    # what became known later on are ends that came after an instrument's newest bar at the time
    newest = dict(
        closes.filter(pl.col("session") <= present).group_by("symbol").agg(pl.col("session").max()).rows()
    )
    later = now.join(then, on=PANEL_KEY, how="anti")
    assert all(row["label_end"] > newest[row["symbol"]] for row in later.iter_rows(named=True))


def label(bars: pl.DataFrame, horizon: int = 5) -> pl.DataFrame:
    return label_panel(compute_features(bars), bars, Experiment(horizon=horizon))


@given(bar_panels(), st.integers(1, 20))
def test_label_panel_agrees_with_a_loop(bars: pl.DataFrame, horizon: int) -> None:
    closes = {
        symbol[0]: list(zip(group["session"], group["close"], strict=True))
        for symbol, group in bars.group_by("symbol", maintain_order=True)
    }
    for row in label(bars, horizon).iter_rows(named=True):
        path = closes[row["symbol"]]
        at = [session for session, _ in path].index(row["session"])
        if at + horizon >= len(path):
            assert (row["forward_return"], row["label_end"], row["label"]) == (None, None, None)
            continue
        session, close = path[at + horizon]
        expected = close / row["close"] - 1
        assert row["label_end"] == session
        assert row["forward_return"] == expected
        assert row["label"] == ("BUY" if expected >= 0.05 else "SELL" if expected <= -0.02 else "HOLD")


@given(bar_panels(min_sessions=32), st.data())
def test_label_panel_never_changes_with_the_future(bars: pl.DataFrame, data: st.DataObject) -> None:
    first = bars.filter(pl.col("symbol") == "AAA")["session"]
    present = first[data.draw(st.integers(27, len(first) - 1), label="sessions known") - 1]
    ended = pl.col("label_end") <= present
    other = with_other_future(bars, present, data.draw(st.integers(0, 2**32 - 1), label="seed"))
    labels = label(bars).filter(ended)
    assert labels.height
    assert label(other).filter(ended).equals(labels)
    known = bars.filter(pl.col("session") <= present)
    truncated = label(known)
    assert labelled_rows(truncated).equals(labels)
    # what had not ended by then has no label then, in particular not HOLD
    assert unlabelled_rows(truncated).height == known.height - labels.height


@given(bar_panels(), st.integers(0, 2**32 - 1))
def test_label_panel_does_not_depend_on_row_order(bars: pl.DataFrame, seed: int) -> None:
    shuffled = bars.sample(fraction=1.0, shuffle=True, seed=seed)
    accepted = check_bars(shuffled, bars["session"].max()).accepted  # type: ignore[arg-type]
    assert label(accepted).equals(label(bars))


@given(bar_panels(symbols=4))
def test_label_panel_does_not_depend_on_other_instruments(bars: pl.DataFrame) -> None:
    # that its exchange goes on without it only others can say: it is judged by that, and nothing learns it
    this = pl.col("symbol") == "AAA"
    assert label(bars.filter(this)).drop(REALISED).equals(label(bars).filter(this).drop(REALISED))


def test_label_panel_keeps_the_features_unchanged() -> None:
    bars = random_walk_bars(symbols=3, sessions=40, seed=0)
    features = compute_features(bars)
    labels = label_panel(features, bars, Experiment(features=FEATURE_NAMES))
    assert labels.select(*PANEL_KEY, *FEATURE_NAMES).equals(features)


def test_label_panel_adds_derived_inputs() -> None:
    bars = random_walk_bars(symbols=3, sessions=40, seed=0)
    features = compute_features(bars)
    labels = label_panel(features.drop("rsi_14"), bars, Experiment(features=("natr_14", "ret_1d")))
    assert labels.columns[2:5] == ["close", "natr_14", "ret_1d"]
    # the range over the close, row by row
    expected = [atr and atr / close for atr, close in zip(features["atr_14"], bars["close"], strict=True)]
    assert labels["natr_14"].to_list() == expected
    assert labels["natr_14"].null_count() == 3 * 13
    with pytest.raises(PanelContractError, match="atr_14"):
        label_panel(features.drop("atr_14"), bars, Experiment(features=("natr_14",)))


def test_label_panel_counts_own_bars_before_1960() -> None:
    closes = flat_bars({"AAA": [100.0, 110.0, 90.0, 95.0]}).select("symbol", "close")
    # Three sessions of 1955 and one of 1960, when the calendars have begun.
    days = [date(1955, 3, 1), date(1955, 3, 2), date(1955, 3, 3), date(1960, 1, 4)]
    placed = closes.with_columns(session=pl.Series(days), exchange=pl.lit("XNYS")).select(
        "symbol", "session", "close", "exchange"
    )
    features = features_for(placed)
    found = label_panel(features, placed, Experiment(horizon=1, features=("ret_1d",)))
    # 110 / 100 - 1, 90 / 110 - 1, 95 / 90 - 1
    assert found["forward_return"].to_list()[:3] == pytest.approx([0.1, -20 / 110, 5 / 90])
    assert found["label_end"].to_list()[:2] == [date(1955, 3, 2), date(1955, 3, 3)]


def test_label_panel_leaves_out_the_benchmark() -> None:
    bars = random_walk_bars(symbols=3, sessions=40, seed=0)
    features = compute_features(bars)
    every = label_panel(features, bars, Experiment())
    without = label_panel(features, bars, Experiment(benchmark="W001"))
    assert without.equals(every.filter(pl.col("symbol") != "W001"))
    assert without["symbol"].unique().sort().to_list() == ["W000", "W002"]
    assert label_panel(features, bars, Experiment(benchmark="NONE")).equals(every)
    with pytest.raises(NotEnoughHistoryError):
        label_panel(features.filter(pl.col("symbol") == "W001"), bars, Experiment(benchmark="W001"))
