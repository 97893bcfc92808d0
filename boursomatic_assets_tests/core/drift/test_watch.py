from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, with_derived_inputs
from boursomatic_assets.core.drift.alarms import Episode, cause_of, episodes, newest_alarm, words_of
from boursomatic_assets.core.drift.watch import (
    DRIFT_SCHEMA,
    FALSE_ALARMS,
    detect_drift,
    scan_drift,
    with_predictions,
)
from boursomatic_assets.errors import NotEnoughHistoryError
from boursomatic_assets_tests.support import served
from boursomatic_assets_tests.support.drifting import (
    features_of,
    predicted,
    real_bars,
    reference_until,
    sessions_of,
    simulated_bars,
)
from boursomatic_assets_tests.support.faults import with_doubled_swings, with_fault

if TYPE_CHECKING:
    from collections.abc import Callable

# A reference profile and the rows after its training panel.
Market = tuple[dict[str, Any], pl.DataFrame]
COLUMN_FAULTS = ("sign flipped", "unit error x 100", "constant")
# Sessions from the training panel to a fault; the window before is calm in both.
ONSETS = {"simulated": 60, "us_market": 150}
MARKETS = ["simulated", pytest.param("us_market", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def simulated() -> Market:
    """Reference of 1,000 sessions, and the rows of the 120 sessions after them with the 24 before."""
    return cut(features_of(simulated_bars(60, 1140, 0)), 1000)


def cut(rows: pl.DataFrame, learned: int) -> Market:
    sessions = sessions_of(rows)
    return reference_until(rows, sessions[learned - 1]), rows.filter(pl.col("session") >= sessions[learned - 24])


def caught_after(reference: dict[str, Any], rows: pl.DataFrame, since: date) -> int | None:
    """Sessions from a fault's beginning to its first alarm; None where five are not enough."""
    sessions = sessions_of(rows)
    begun = sessions.index(since)
    seen = predicted(rows.filter(pl.col("session").is_between(sessions[begun - 24], sessions[begun + 4])))
    alarmed = scan_drift(reference, seen).filter(pl.col("session") >= since)["alarmed"].to_list()
    return alarmed.index(True) + 1 if True in alarmed else None


def test_detect_drift_agrees_with_the_last_window_of_a_scan(simulated: Market) -> None:
    reference, rows = simulated
    found, scan = detect_drift(reference, predicted(rows)), scan_drift(reference, predicted(rows))
    assert found.schema == DRIFT_SCHEMA
    # eight features with six statistics each, and two of the predictions
    assert found.height == 8 * 6 + 2
    assert scan.height == 120
    last = scan.row(-1, named=True)
    assert last["alarmed"] == found["alarmed"].any()
    assert scan.select((pl.col("alarmed") == (pl.col("p_value") <= FALSE_ALARMS)).all()).item()
    assert last["session"] == rows["session"].max()
    # what lies before the last 25 sessions does not matter, nor does the order of rows
    some = rows.filter(pl.col("session") >= sessions_of(rows)[-25]).sample(fraction=1.0, shuffle=True, seed=3)
    again = detect_drift(reference, predicted(some))
    assert again["value"].to_list() == pytest.approx(found["value"].to_list())


def test_drift_ignores_new_listings_without_history(simulated: Market) -> None:
    # The reference was made of rows with history. Sixty instruments that begin with the newest window have none:
    # their rows would be half of it, and shares of nulls and means of what they are predicted would jump.
    reference, rows = simulated
    new = rows.filter(pl.col("session") >= sessions_of(rows)[-5]).with_columns(
        pl.concat_str(pl.lit("NEW"), "symbol").alias("symbol"), pl.lit(None, pl.Float64).alias("vol_20d")
    )
    both = predicted(pl.concat([rows, new]))
    assert detect_drift(reference, both).equals(detect_drift(reference, predicted(rows)))
    assert scan_drift(reference, both).equals(scan_drift(reference, predicted(rows)))
    # A column that is lost for instruments with a history is a change.
    lost = with_nulls(rows, "vol_20d", sessions_of(rows)[-5])
    found = detect_drift(reference, predicted(lost))
    assert found.filter(pl.col("feature") == "vol_20d")["alarmed"].any()


def with_nulls(rows: pl.DataFrame, feature: str, since: date) -> pl.DataFrame:
    return rows.with_columns(pl.when(pl.col("session") < since).then(feature).alias(feature))


def test_detect_drift_alarms_from_the_level_on(simulated: Market) -> None:
    reference, rows = simulated
    since = sessions_of(rows)[-3]
    found = detect_drift(reference, predicted(with_fault(rows, "unit error x 100", "natr_14", since)))
    assert found["alarmed"].any()
    assert found.select(((pl.col("value") >= pl.col("level")) == pl.col("alarmed")).all()).item()
    assert found.filter("alarmed")["p_value"].max() <= FALSE_ALARMS
    assert found["feature"][0] == "natr_14"


@pytest.mark.parametrize("feature", DEFAULT_INPUTS)
@pytest.mark.parametrize("fault", COLUMN_FAULTS)
@pytest.mark.parametrize("market", MARKETS)
def test_scan_drift_catches_a_fault_within_five_sessions(
    market: str, fault: str, feature: str, request: pytest.FixtureRequest
) -> None:
    reference, rows = request.getfixturevalue(market)
    since = sessions_of(rows)[24 + ONSETS[market]]
    assert caught_after(reference, with_fault(rows, fault, feature, since), since) is not None


@pytest.mark.parametrize("market", MARKETS)
def test_scan_drift_catches_doubled_volatility_within_five_sessions(
    market: str, request: pytest.FixtureRequest
) -> None:
    reference, rows = request.getfixturevalue(market)
    since = sessions_of(rows)[24 + ONSETS[market]]
    assert caught_after(reference, with_fault(rows, "doubled", "vol_20d", since), since) is not None
    bars = simulated_bars(60, 1140, 0) if market == "simulated" else real_bars("s&p 500")
    swings = features_of(with_doubled_swings(bars, since)).filter(pl.col("session") >= rows["session"].min())
    assert caught_after(reference, swings, since) is not None


@pytest.mark.slow
def test_scan_drift_raises_at_most_one_false_alarm_in_a_hundred_windows() -> None:
    alarmed = []
    for seed in range(20):
        reference, rows = cut(features_of(simulated_bars(20, 1420, seed)), 1000)
        alarmed += scan_drift(reference, predicted(rows))["alarmed"].to_list()
    assert len(alarmed) == 20 * 400
    assert np.mean(alarmed) <= 0.01


@pytest.fixture(scope="module")
def us_market() -> Market:
    """The S&P 500: reference of 865 sessions until August 2016, and the rows after them."""
    return cut(features_of(real_bars("s&p 500")), 865)


@pytest.mark.slow
def test_scan_drift_dates_the_election_of_2016(us_market: Market) -> None:
    reference, rows = us_market
    scan = scan_drift(reference, predicted(rows))
    found = episodes(scan)
    assert len(found) <= 6 * scan.height / 252
    # the week after the election of 2016-11-08
    assert any(date(2016, 11, 9) <= each.first <= date(2016, 11, 18) for each in found)


def alarms_by_year(name: str) -> dict[int, list[Episode]]:
    """Alarms of each year, by the reference of up to a thousand sessions before it."""
    rows = features_of(real_bars(name))
    sessions, found = sessions_of(rows), {}
    for year in sorted({session.year for session in sessions}):
        learned = [session for session in sessions if session.year < year][-1000:]
        if len(learned) >= 500:
            reference = reference_until(rows.filter(pl.col("session") >= learned[0]), learned[-1])
            seen = rows.filter(pl.col("session").is_between(learned[-24], date(year, 12, 31)))
            found[year] = episodes(scan_drift(reference, predicted(seen)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "years", "events"),
    [
        # the votes of 2016-06-23 and 2016-11-08
        ("s&p 500", 3, [date(2016, 6, 24), date(2016, 11, 9)]),
        # and the summer of 2007, January 2008, the failure of a bank on 2008-09-15, August 2011
        (
            "europe",
            26,
            [
                date(2007, 7, 27), date(2008, 1, 21), date(2008, 9, 15), date(2011, 8, 4), date(2016, 6, 24),
                date(2016, 11, 9),
            ],
        ),
    ],
)  # fmt: skip
def test_episodes_are_at_most_six_a_year_and_hold_the_known_events(
    name: str, years: int, events: list[date], record_property: Callable[[str, object], None]
) -> None:
    found = alarms_by_year(name)
    assert len(found) == years
    listed = [f"{alarm.first} to {alarm.last}" for year in found.values() for alarm in year]
    record_property(f"alarms on {name}", "; ".join(listed))
    assert {year: len(alarms) for year, alarms in found.items() if len(alarms) > 6} == {}
    firsts = [alarm.first for year in found.values() for alarm in year]
    unseen = [event for event in events if not any(0 <= (first - event).days <= 10 for first in firsts)]
    assert unseen == [], listed


@pytest.mark.slow
def test_scan_drift_finds_the_fall_of_january_2008() -> None:
    rows = features_of(real_bars("europe"))
    from_2003 = rows.filter(pl.col("session").is_between(date(2003, 1, 1), date(2008, 12, 31)))
    learned = sum(day < date(2007, 1, 1) for day in sessions_of(from_2003))
    reference, later = cut(from_2003, learned)
    scan = scan_drift(reference, predicted(later))
    found = episodes(scan)
    assert len(found) <= 6 * scan.height / 252
    # the fall of January 2008
    assert any(date(2008, 1, 8) <= each.first <= date(2008, 1, 31) for each in found)


def test_drift_without_predictions_compares_features(simulated: Market) -> None:
    reference, rows = simulated
    assert "predictions" not in detect_drift(reference, rows)["feature"].to_list()
    without = {**reference, "features": [each for each in reference["features"] if each["name"] == "vol_20d"]}
    without["rank_correlation"] = {"values": [[0.0, 0.0]], "usual_change": [[1.0, 1.0]]}
    # without returns there is no test that half of the false alarms go to
    found, window = detect_drift(without, rows), scan_drift(without, rows).row(-1, named=True)
    assert found["feature"].unique().to_list() == ["vol_20d"]
    # Benjamini and Hochberg: the least of six p_1, three p_2, two p_3 ... of six tests
    ordered = found["p_value"].sort().to_list()
    assert window["p_value"] == pytest.approx(min(6 / rank * p for rank, p in enumerate(ordered, start=1)))
    assert window["statistic"] == found["statistic"][0]


def test_drift_without_a_history_raises_no_alarm(simulated: Market) -> None:
    reference, rows = simulated
    unknown = {**reference, "history": []}
    wrong = predicted(with_fault(rows, "constant", "natr_14", sessions_of(rows)[-4]))
    found = detect_drift(unknown, wrong)
    assert not found["alarmed"].any()
    assert found["level"].null_count() == found["p_value"].null_count() == found.height
    assert cause_of(found).startswith("There is no alarm level")
    scan = scan_drift(unknown, wrong)
    assert scan["p_value"].null_count() == scan.height
    assert episodes(scan) == []


def test_drift_of_too_few_sessions_is_an_error(simulated: Market) -> None:
    reference, rows = simulated
    with pytest.raises(NotEnoughHistoryError, match="found 24 full sessions"):
        detect_drift(reference, rows.filter(pl.col("session") >= sessions_of(rows)[-24]))
    for compare in (detect_drift, scan_drift):
        with pytest.raises(NotEnoughHistoryError, match="found 0 full sessions"):
            compare(reference, rows.clear())


def row_of(**values: object) -> dict[str, object]:
    usual = {"feature": "ret_1d", "statistic": "spread", "value": 0.5, "level": 0.4, "p_value": 0.001}
    return {**usual, "alarmed": True, "from_training": 0.6, "partner": None, **values}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [row_of(alarmed=False, level=0.75)],
            "No alarm: the most unusual is spread of ret_1d, 0.5 where 0.75 is an alarm.",
        ),
        (
            [row_of(alarmed=False, level=0.5)],
            "No alarm: the most unusual is spread of ret_1d, 0.5, at its alarm level of 0.5 and not beyond it.",
        ),
        (
            [row_of(alarmed=False, level=None)],
            "No alarm: the most unusual is spread of ret_1d, 0.5 where nothing it has reached is an alarm.",
        ),
        (
            [row_of(level=None)],
            (
                "ret_1d is not what it was in the sessions before: instruments spread wider or closer than before "
                "(spread 0.5, more than any past window reached)."
            ),
        ),
        (
            [row_of(feature="rsi_14", statistic="rank_correlation", partner="ret_20d", value=9.0, level=5.0)],
            (
                "rsi_14 is not what it was in the sessions before: it goes together with ret_20d in another way "
                "(rank_correlation 9, alarm from 5)."
            ),
        ),
        (
            [row_of(feature="predictions", statistic="class_mix", value=0.25, level=0.125)],
            (
                "Predictions are not what they were in the sessions before: the mix of predicted classes changed "
                "(class_mix 0.25, alarm from 0.125)."
            ),
        ),
        (
            [row_of(), row_of(feature="vol_20d"), row_of(feature="atr_14"), row_of(feature="atr_14")],
            (
                "ret_1d is not what it was in the sessions before: instruments spread wider or closer than before "
                "(spread 0.5, alarm from 0.4); also alarmed: atr_14, vol_20d."
            ),
        ),
    ],
)
def test_cause_of_is_one_sentence(rows: list[dict[str, object]], sentence: str) -> None:
    assert cause_of(pl.DataFrame(rows, schema=DRIFT_SCHEMA)) == sentence


def test_episodes_join_consecutive_alarms() -> None:
    days = [date(2020, 1, day) for day in range(1, 8)]
    scan = pl.DataFrame({"session": days, "alarmed": [True, False, True, True, True, False, True]})
    assert episodes(scan) == [
        Episode(days[0], days[0], 1),
        Episode(days[2], days[4], 3),
        Episode(days[6], days[6], 1),
    ]


def scanned(alarmed: str) -> pl.DataFrame:
    """A scan with an alarm at each `!`, the later the less unusual."""
    return pl.DataFrame(
        {
            "session": [date(2020, 1, 1 + place) for place in range(len(alarmed))],
            "p_value": [1e-6 * (1 + place) if each == "!" else 0.5 for place, each in enumerate(alarmed)],
            "feature": [f"f{1 + place}" for place in range(len(alarmed))],
            "statistic": ["rank_correlation"] * len(alarmed),
            "alarmed": [each == "!" for each in alarmed],
        },
        schema_overrides={"alarmed": pl.Boolean},
    )


@pytest.mark.parametrize(
    ("alarmed", "event"),
    [
        ("", None),
        (".....", None),
        ("..!!.", (3, 4, 2)),
        # windows four sessions apart share one: the same event; five apart share none
        ("!...!.!", (1, 7, 3)),
        ("!....!.!", (6, 8, 2)),
        ("!!....!...!.", (7, 11, 2)),
    ],
)
def test_newest_alarm_joins_windows_that_share_sessions(alarmed: str, event: tuple[int, int, int] | None) -> None:
    expected = event and Episode(date(2020, 1, event[0]), date(2020, 1, event[1]), event[2])
    assert newest_alarm(scanned(alarmed)) == expected


@given(st.text("!.", max_size=30))
def test_newest_alarm_holds_the_last_alarm_and_no_pause_of_a_window(alarmed: str) -> None:
    event = newest_alarm(scanned(alarmed))
    if event is None:
        assert "!" not in alarmed
        return
    first, last = event.first.day - 1, event.last.day - 1
    assert last == alarmed.rindex("!")
    own, before = alarmed[first : last + 1], alarmed[:first]
    assert own[0] == "!"
    assert own.count("!") == event.windows
    # four calm windows in a row, at most: the fifth shares nothing with the last alarm
    assert "....." not in own.replace("!....!", "!!")
    assert "!" not in before[-4:]


def test_words_of_an_alarm_that_is_over_name_its_most_unusual_window() -> None:
    scan, drift = scanned(".!!..."), pl.DataFrame([row_of(alarmed=False)], schema=DRIFT_SCHEMA)
    (alarm,) = episodes(scan)
    assert newest_alarm(scan) == alarm
    assert words_of(alarm, scan, drift) == (
        "f2 was not what it had been in the sessions before 2020-01-02: it goes together with another feature in "
        "another way (rank_correlation); no alarm since 2020-01-03."
    )
    # one that goes on is told by the newest window
    assert newest_alarm(scan.head(3)) == alarm
    assert words_of(alarm, scan.head(3), drift) == cause_of(drift)


def test_with_predictions_adds_those_of_the_classifier() -> None:
    classifier, _ = served.models()
    rows = with_predictions(with_derived_inputs(served.newest_rows(), DEFAULT_INPUTS), classifier)
    probabilities = classifier.predict(rows)
    assert rows["probability_buy"].to_list() == probabilities[:, 0].tolist()
    names = np.array(["BUY", "HOLD", "SELL"])
    assert rows["predicted_label"].cast(pl.String).to_list() == names[probabilities.argmax(axis=1)].tolist()
