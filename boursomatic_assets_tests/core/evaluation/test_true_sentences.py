"""Sentences that compare two figures hold for the digits that they print."""

from __future__ import annotations

import math
import re
from datetime import date

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boursomatic_assets.core.drift.alarms import cause_of
from boursomatic_assets.core.drift.watch import DRIFT_SCHEMA
from boursomatic_assets.core.recommendations.outcomes import BuyRecord
from boursomatic_assets.core.recommendations.reasons import Facts, justify
from boursomatic_assets.core.registry.comparison import Comparison, Difference
from boursomatic_assets.core.registry.gate import weigh

NAN = math.nan
NUMBER = r"([+-]?\d+(?:\.\d+)?(?:e-?\d+)?)"
SMALL = st.one_of(st.floats(-0.02, 0.02), st.floats(0.0049, 0.0051), st.sampled_from([0.0, -0.0, 5e-6, -5e-6]))
ANY = st.one_of(SMALL, st.floats(-3, 3), st.just(NAN))


def read(pattern: str, text: str) -> tuple[float, ...]:
    """Numbers of a sentence, which has to be as the pattern says."""
    found = re.search(pattern, text)
    assert found is not None, text
    return tuple(float(part) for part in found.groups() if part is not None)


def compared_with(loss: Difference, ranks: Difference) -> Comparison:
    sound = Difference(0.0, 0.0, -0.1, 0.1)
    return Comparison(loss, sound, ranks, 100, 50, date(2020, 1, 1), date(2020, 3, 1))


MARGINS = st.one_of(st.just(0.005), st.floats(0, 0.02))


@given(ANY, ANY, st.one_of(ANY, st.just(math.inf)), MARGINS)
@example(0.001, -0.01, 0.00504, 0.005)
@example(0.001, -0.01, 0.005, 0.005)
@example(-0.00001, -0.01, 0.00496, 0.00496)
def test_weigh_on_the_log_loss_reads_true(value: float, low: float, upper: float, margin: float) -> None:
    found = compared_with(Difference(value, 0.0, low, NAN, upper), Difference(0.0, 0.0, -0.1, 0.1))
    promoted, reason = weigh(found, "old", margin)
    assert promoted == (upper <= margin)
    if promoted:
        said, most, allowed = read(
            rf"log loss {NUMBER} nats, with 95 % certainty at most {NUMBER}; {NUMBER} more is allowed",
            reason.replace("log loss not available", "log loss 0"),
        )
        assert most <= allowed
        assert not any(sign in reason for sign in ("+0.0000 ", "-0.0000 "))
        assert math.isnan(value) or said == pytest.approx(value, abs=5.1e-5)
        return
    assert ("that it is higher at all is not certain" in reason) == (not low > 0)
    if not math.isfinite(upper):
        assert "may be higher by more than can be told" in reason
        assert "nan" not in reason
        return
    worst, *_, allowed = read(
        rf"may be {NUMBER} nats higher \(95 %; most likely (?:{NUMBER}|not available).*\), and {NUMBER} is allowed",
        reason,
    )
    assert worst == pytest.approx(upper, abs=5.1e-5)
    # Two that agree to twelve digits are equal to whoever reads them.
    assert worst > allowed or upper - margin < 1e-6 * margin + 1e-11


@given(ANY, st.tuples(st.floats(-1, -1e-6), st.floats(-1, -1e-6)).map(sorted))
@example(-0.0001, [-0.0004, -0.0002])
@example(0.001, [-0.003, -0.001])
def test_weigh_on_a_lower_figure_reads_true(value: float, interval: list[float]) -> None:
    low, high = interval
    found = compared_with(Difference(0.0, 0.0, -0.1, 0.1, 0.0), Difference(value, 0.0, low, high))
    promoted, reason = weigh(found, "old", 0.005)
    assert not promoted
    if "with its whole" in reason:
        assert math.isnan(value) or value > -1e-3
        least, most = read(
            rf"its rank IC is lower with its whole 95 % interval \(by {NUMBER} to {NUMBER}\)", reason
        )
    else:
        by, least, most = read(rf"its rank IC is lower by {NUMBER} \({NUMBER} to {NUMBER}, 95 %\)", reason)
        assert by > 0
        assert by == pytest.approx(-value, abs=5.1e-4)
    assert 0 < least <= most


SHARES = st.one_of(st.floats(0, 1), st.floats(0.495, 0.505), st.sampled_from([0.0, -0.0, 1.0]))


@given(SHARES, SHARES, st.one_of(st.none(), st.floats(0, 0.3)))
@example(0.5, 0.5004, 0.0003)  # 50.0 % of 50.0 %, and 50.0 % is the bound
@example(0.6, 0.5, 0.1)
def test_buy_record_sentence_reads_true(realised: float, expected: float, width: float | None) -> None:
    bound = None if width is None else expected - width
    record = BuyRecord("v1", 40, 20, expected, realised, bound)
    share = rf"{NUMBER} %"
    if bound is None:
        read(rf"^BUY calls of version v1 came true in {share} where {share} were expected \(40", record.sentence)
        return
    how = re.search("(less often|as often|more often) (?:as|than) expected(, within chance)?:", record.sentence)
    assert how is not None
    came, wanted, least = read(
        rf": {share} where {share} were expected, and chance explains {share} or more", record.sentence
    )
    assert {"less often": came < wanted, "as often": came == wanted, "more often": came > wanted}[how[1]] or (
        # Shares that differ by less than a printed digit can be told apart in no way.
        record.falls_short and abs(realised - bound) < 1e-13
    )
    assert (how[2] is not None) == (how[1] == "less often" and not record.falls_short)
    if record.falls_short:
        assert came < least or realised > bound - 1e-13
    else:
        assert came >= least


LEVELS = st.one_of(st.none(), st.floats(1e-6, 50), st.floats(0.123, 0.1241))


@given(level=LEVELS, value=st.one_of(st.floats(1e-6, 50), st.floats(0.123, 0.1241)), alarmed=st.booleans())
@example(level=0.12341, value=0.1234, alarmed=False)
@example(level=0.1234, value=0.1234, alarmed=False)
def test_cause_of_an_alarm_level_reads_true(level: float | None, value: float, *, alarmed: bool) -> None:
    row = {"feature": "ret_1d", "statistic": "spread", "value": value, "level": level, "p_value": 0.001}
    row |= {"alarmed": alarmed, "from_training": 0.1, "partner": None}
    said = cause_of(pl.DataFrame([row], schema=DRIFT_SCHEMA))
    assert said.startswith("No alarm") != alarmed
    if level is None:
        beyond = "more than any past window reached" if alarmed else "where nothing it has reached is an alarm"
        assert beyond in said
    elif not alarmed and " where " in said:
        shown, bound = read(rf"of ret_1d, {NUMBER} where {NUMBER} is an alarm", said)
        assert shown < bound
        assert value < level
    elif not alarmed:
        read(rf"of ret_1d, {NUMBER}, at its alarm level of {NUMBER} and not beyond it", said)
        assert value >= level or value == pytest.approx(level, rel=1e-11)
    elif value >= level:
        shown, bound = read(rf"\(spread {NUMBER}, alarm from {NUMBER}\)", said)
        assert shown >= bound


def call(calibrated: dict[str, float], label: str, **others: object) -> str:
    facts = {
        "label": label, "held_back": None, "probability": calibrated[label], "calibrated": calibrated,
        "expected_return": 0.01, "horizon": 20, "features": {"vol_20d": 0.01}, "close": 10.0, "contributions": {},
        "profile": "moderate", "max_volatility": 0.02, "tau": None,
    }  # fmt: skip
    return justify(Facts(**(facts | others)))["en"]  # type: ignore[arg-type]


@given(st.floats(0.2, 0.5), st.floats(-0.02, 0.02))
@example(0.448, 0.004)
def test_a_label_that_is_ahead_is_ahead_as_printed(buy: float, more: float) -> None:
    hold = buy + more
    said = call({"BUY": buy, "HOLD": hold, "SELL": 1 - buy - hold if buy + hold < 0.6 else 0.0}, "BUY")
    chances = dict(re.findall(r"(BUY|HOLD|SELL) at (?:less than |more than )?(\d+) %", said))
    ahead = re.search("and (BUY|HOLD|SELL) is ahead", said)
    clear = re.search("(BUY|HOLD|SELL) is clearly the likeliest", said)
    for found in filter(None, (ahead, clear)):
        others = [int(chance) for name, chance in chances.items() if name != found[1]]
        assert int(chances[found[1]]) >= max(others)
    if ahead is not None:
        assert int(chances[ahead[1]]) > int(chances["BUY"])


@given(st.floats(0.005, 0.2), st.one_of(st.floats(1e-6, 0.05), st.floats(1e-6, 1e-4)))
@example(0.0304, 0.0001)  # 3 % is not above a limit of 3.04 %: 3.05 % is
def test_justify_volatility_above_its_limit_reads_true(limit: float, beyond: float) -> None:
    said = call(
        {"BUY": 0.6, "HOLD": 0.3, "SELL": 0.1}, "HOLD", held_back="volatility", max_volatility=limit,
        features={"vol_20d": limit + beyond},
    )  # fmt: skip
    size, bound = read(rf"moves by about {NUMBER} % a day, .* limit of {NUMBER} %\.", said)
    assert size > bound if "more than this profile's limit" in said else size >= bound
