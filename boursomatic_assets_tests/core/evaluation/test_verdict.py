from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.core.evaluation.book_figures import Trials
from boursomatic_assets.core.evaluation.plausibility import AT_MOST, too_good
from boursomatic_assets.core.evaluation.survivors import PanelYear, Survivors
from boursomatic_assets.core.evaluation.verdict import LEVEL, PRIMARY, Verdict, conclude
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.errors import PanelContractError

NAN = math.nan
FIRST, SECOND, THIRD = PRIMARY


FIRST_DAY, LAST_DAY = date(2004, 1, 2), date(2005, 12, 30)


def of_panel(ended: int, *held: tuple[int, int]) -> Survivors:
    """Survivors among ten symbols, with members held of members of 2004, 2005, … where they are known."""
    years = tuple(
        PanelYear(year, 10, 0, date(year, 6, 30), members, mine)
        for year, (mine, members) in enumerate(held, start=2004)
    )
    return Survivors(10, ended, FIRST_DAY, LAST_DAY, years)


ENDING = of_panel(3)


def figures(p_values: tuple[float, float, float], **others: Figure) -> list[Figure]:
    """The three primary figures with these p-values, and quiet ones of all else that is looked at."""
    names = {*PRIMARY, *AT_MOST, "buy_sharpe_ratio"}
    quiet = {name: Figure(name, name, "ranking", 0.0) for name in names}
    primary = {
        name: Figure(name, f"The {name}", "ranking", 0.001, -0.5, 0.25, p_value, no_skill=0.0)
        for name, p_value in zip(PRIMARY, p_values, strict=True)
    }
    return list((quiet | primary | others).values())


def of_value(name: str, value: float, baseline: float = NAN) -> Figure:
    return Figure(name, f"The {name}", "classification", value, baseline=baseline)


def concluded(*p_values: float) -> Verdict:
    return conclude(figures(p_values), 50, Trials(), ENDING)  # type: ignore[arg-type]


def named_in(verdict: Verdict) -> list[str]:
    return [name for name in PRIMARY if f"The {name} " in verdict.sentence]


def test_verdict_rule_is_fixed() -> None:
    # Changing one of these changes what is called skill.
    assert LEVEL == 0.025
    assert PRIMARY == ("matched_rank_ic", "selection_lift_buy", "long_short_sharpe_ratio")


def test_conclude_needs_one_of_three_below_a_third_of_the_level() -> None:
    # 0.025 / 3 = 0.00833...
    assert concluded(0.0083, 0.5, 0.5).skill
    assert concluded(0.5, 0.5, 0.025 / 3).skill
    assert not concluded(0.0084, 0.5, 0.5).skill
    # Three near misses are none the better for being three.
    assert not concluded(0.0084, 0.0084, 0.0084).skill


@pytest.mark.parametrize(
    ("p_values", "found"),
    [
        ((0.0083, 0.0124, 0.0249), [FIRST, SECOND, THIRD]),  # below 0.025 / 3, 0.025 / 2 and 0.025
        ((0.0249, 0.0083, 0.0124), [FIRST, SECOND, THIRD]),  # in whichever order
        ((0.0083, 0.0124, 0.0251), [FIRST, SECOND]),
        ((0.0083, 0.0126, 0.0249), [FIRST]),  # the second stops the third
        ((0.0126, 0.5, 0.0083), [THIRD]),
        ((0.0084, 0.0124, 0.0249), []),  # the first stops all
    ],
)
def test_conclude_names_what_holm_finds(p_values: tuple[float, float, float], found: list[str]) -> None:
    verdict = concluded(*p_values)
    assert verdict.skill == bool(found)
    assert named_in(verdict) == (found or list(PRIMARY))


def test_conclude_leaves_out_undefined_tests() -> None:
    # two are left: 0.025 / 2 = 0.0125; then one: 0.025
    assert concluded(0.0124, NAN, 0.5).skill
    assert not concluded(0.0126, NAN, 0.5).skill
    assert concluded(NAN, 0.0249, NAN).skill
    assert not concluded(NAN, 0.0251, NAN).skill
    assert named_in(concluded(0.5, NAN, 0.5)) == [FIRST, THIRD]


def test_conclude_refuses_to_judge_without_a_figure_that_it_reads() -> None:
    with pytest.raises(PanelContractError, match=FIRST):
        conclude([each for each in figures((0.5, 0.5, 0.5)) if each.name != FIRST], 50, Trials(), ENDING)


def test_conclude_without_a_test_is_no_evidence() -> None:
    verdict = concluded(NAN, NAN, NAN)
    assert not verdict.skill
    assert verdict.sentence == "No evidence of skill: there are too few sessions or names to test for it."
    assert verdict.remarks


def test_conclude_shows_value_interval_null_and_p_value() -> None:
    assert concluded(0.001, 0.5, 0.5).sentence == (
        f"Evidence of skill: The {FIRST} 0.001 (95 % interval -0.5 to 0.25, without skill 0, p 0.001)."
    )
    assert concluded(0.2, NAN, NAN).sentence == (
        f"No evidence of skill: The {FIRST} 0.001 (95 % interval -0.5 to 0.25, without skill 0, p 0.2)."
    )


def test_conclude_shows_no_interval_where_there_is_none() -> None:
    listed = [
        replace(figure, low=NAN, high=NAN) if figure.name == FIRST else figure
        for figure in figures((0.2, NAN, NAN))
    ]
    sentence = conclude(listed, 50, Trials(), ENDING).sentence
    assert sentence == f"No evidence of skill: The {FIRST} 0.001 (without skill 0, p 0.2)."


CHANCES = st.one_of(st.floats(0, 1), st.floats(0, 0.03), st.just(NAN))


@given(CHANCES, CHANCES, CHANCES)
def test_conclude_sentence_agrees_with_the_verdict(first: float, second: float, third: float) -> None:
    verdict = concluded(first, second, third)
    lead = "Evidence of skill: " if verdict.skill else "No evidence of skill: "
    assert verdict.sentence.startswith(lead)
    assert "nan" not in verdict.sentence
    tested = [p for p in (first, second, third) if not math.isnan(p)]
    # Whether anything is found at all is decided by the smallest.
    assert verdict.skill == bool(tested and min(tested) <= 0.025 / len(tested))


@given(st.permutations(figures((0.001, 0.2, 0.3))))
def test_conclude_does_not_depend_on_the_order_of_figures(listed: list[Figure]) -> None:
    assert conclude(listed, 50, Trials(), ENDING) == concluded(0.001, 0.2, 0.3)


def remarks(*others: Figure, periods: float = 50, trials: int = 1) -> tuple[str, ...]:
    named = {figure.name: figure for figure in others}
    overlap, survivors, *others_made = conclude(
        figures((0.5, 0.5, 0.5), **named), periods, Trials(trials, 0.1), ENDING
    ).remarks
    assert survivors == ENDING.sentence
    return (overlap, *others_made)


def test_remarks_count_independent_horizons() -> None:
    assert remarks() == ("Sessions overlap: they hold about 50 independent horizons.",)
    assert remarks(periods=20) == ("Sessions overlap: they hold about 20 independent horizons.",)
    few = "Sessions overlap: they hold about 9 independent horizons, too few to tell a small skill from none."
    assert remarks(periods=9.3) == (few,)


def test_remarks_compare_the_raw_lift_with_the_matched_one() -> None:
    raised, matched = of_value("lift_buy", 1.234), of_value("matched_lift_buy", 0.987)
    (_, remark) = remarks(raised, matched)
    assert remark.startswith("The raw BUY lift of 1.23 is 0.99 at equal volatility")
    assert len(remarks(of_value("lift_buy", 1.0), matched)) == 1
    assert len(remarks(of_value("lift_buy", NAN), matched)) == 1
    assert len(remarks(raised, of_value("matched_lift_buy", NAN))) == 1


def sharpe_remark(value: float, baseline: float, total: float = NAN) -> str | None:
    """What is said of the book's Sharpe ratio, where equal weights return so much in all."""
    made = remarks(
        of_value("buy_sharpe_ratio", value, baseline=baseline), of_value("buy_total_return", 0.0, baseline=total)
    )
    return next((remark for remark in made if remark.startswith("The BUY book's Sharpe")), None)


@pytest.mark.parametrize(
    ("value", "beside"),
    [(0.9, "is above the 0.80"), (0.7, "is below the 0.80"), (0.8, "equals the 0.80"), (0.7951, "equals the 0.80")],
)
def test_remarks_compare_the_book_with_equal_weights(value: float, beside: str) -> None:
    (_, remark) = remarks(of_value("buy_sharpe_ratio", value, baseline=0.8))
    assert remark == f"The BUY book's Sharpe of {value:.2f} {beside} of holding everything in equal weights."


def test_remarks_name_a_rising_market_where_the_book_did_no_better() -> None:
    said = "in equal weights, which gained 12.3 % over these sessions: a rising market is no skill."
    assert said in str(sharpe_remark(0.7, 0.8, 0.123))
    assert said in str(sharpe_remark(0.8, 0.8, 0.123))
    silent = [
        (-1.13, -0.03, -0.02),  # the market fell
        (-1.13, 0.5, 0.2),  # the book lost: no rising market made it look good
        (0.9, 0.8, 0.2),  # the book was ahead
        (0.7, 0.8, 0.0004),  # a gain of 0.0 %
        (0.7, 0.8, NAN),
    ]
    for case in silent:
        assert str(sharpe_remark(*case)).endswith("of holding everything in equal weights.")
    assert sharpe_remark(NAN, 0.8, 0.1) is None
    assert sharpe_remark(0.7, math.inf, 0.1) is None


FIGURE = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(-2, 2), st.sampled_from([0.0, -0.0, 0.005, -0.005])
)


@given(FIGURE, FIGURE, FIGURE)
def test_remarks_on_the_book_read_true(value: float, baseline: float, total: float) -> None:
    remark = sharpe_remark(value, baseline, total)
    if not (math.isfinite(value) and math.isfinite(baseline)):
        assert remark is None
        return
    number = r"(-?[\d.]+)"
    said = re.fullmatch(
        rf"The BUY book's Sharpe of {number} (is above|equals|is below) the {number} of holding everything in "
        rf"equal weights(?:, which gained {number} % over these sessions: a rising market is no skill)?\.",
        str(remark),
    )
    assert said is not None
    first, second = float(said[1]), float(said[3])
    assert first == pytest.approx(value, abs=0.0051, rel=1e-12)
    assert second == pytest.approx(baseline, abs=0.0051, rel=1e-12)
    assert "-0.00" not in str(remark).split()
    assert {"is above": first > second, "equals": first == second, "is below": first < second}[said[2]]
    if said[4] is not None:
        assert float(said[4]) > 0
        assert total > 0
        assert 0 < first <= second


@given(FIGURE, FIGURE)
def test_remarks_on_the_lift_read_true(raw: float, matched: float) -> None:
    made = remarks(of_value("lift_buy", raw), of_value("matched_lift_buy", matched))
    (remark,) = [each for each in made if each.startswith("The raw BUY lift")] or [None]
    if not (math.isfinite(raw) and math.isfinite(matched) and float(f"{raw:.2f}") > 1):
        assert remark is None
        return
    said = re.match(
        r"The raw BUY lift of (-?[\d.]+) is (-?[\d.]+) at equal volatility: (volatile stocks)?", str(remark)
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(raw, abs=0.0051, rel=1e-12)
    assert float(said[2]) == pytest.approx(matched, abs=0.0051, rel=1e-12)
    assert bool(said[3]) == (float(said[2]) < float(said[1]))
    assert str(remark).endswith("explains none of it.") == (not said[3])


@given(st.floats(0, 100))
def test_remarks_call_few_horizons_few_as_printed(periods: float) -> None:
    said = re.match(
        r"Sessions overlap: they hold about (\d+) independent horizons(, too few)?", remarks(periods=periods)[0]
    )
    assert said is not None
    assert bool(said[2]) == (int(said[1]) < 20)


def test_conclude_qualifies_skill_among_survivors_in_the_same_sentence() -> None:
    def said(survivors: Survivors, p_value: float) -> Verdict:
        return conclude(figures((p_value, NAN, NAN)), 50, Trials(), survivors)

    shown = f"The {FIRST} 0.001 (95 % interval -0.5 to 0.25, without skill 0, p 0.001)."
    everyone = of_panel(3, (4, 4), (5, 5))
    assert said(everyone, 0.001).sentence == f"Evidence of skill: {shown}"
    assert said(of_panel(0), 0.001).sentence == (
        "Evidence of skill, among survivors only: no symbol of this panel stops trading before the panel ends; "
        f"{shown}"
    )
    assert said(of_panel(0, (300, 496), (276, 496)), 0.001).sentence == (
        "Evidence of skill, among survivors only: no symbol of this panel stops trading before the panel ends, and "
        f"it holds 276 of 496 members of 2005, the lowest share of all years; {shown}"
    )
    assert said(of_panel(1, (276, 496)), 0.001).sentence == (
        "Evidence of skill, among the members held only: 1 of 10 symbols of this panel stops trading before the "
        f"panel ends, and it holds 276 of 496 members of 2004; {shown}"
    )
    for survivors in (everyone, of_panel(0), of_panel(0, (276, 496))):
        refused = said(survivors, 0.5)
        assert refused.sentence.startswith("No evidence of skill: ")
        assert survivors.sentence in refused.remarks
        assert survivors.sentence in said(survivors, 0.001).remarks


def test_remarks_count_further_experiments() -> None:
    (_, remark) = remarks(trials=7)
    assert remark.startswith("7 distinct experiments were tried on these sessions")


def test_remarks_warn_of_what_is_too_good() -> None:
    (_, remark) = remarks(of_value("r2_over_prior", 0.0051))
    assert remark == (
        "Beyond what such features can honestly reach: The r2_over_prior. Look for a leak before being glad."
    )


def test_too_good_bounds() -> None:
    values = dict(AT_MOST)
    assert too_good(values) == {}
    assert too_good(dict.fromkeys(values, NAN)) == {}
    assert too_good(dict.fromkeys(values, -100.0)) == {}
    above = {name: most + 1e-9 for name, most in values.items()}
    assert too_good(above | {"accuracy": 1.0}) == above
    # What such features can reach on large caps: rank IC up to 0.03 and suspicious above 0.06, lifts up to 1.4 and
    # 1.08, R² up to half a percent, a long-short Sharpe ratio up to 0.7, accuracy up to 5 points over the majority.
    assert values == {
        "accuracy_over_majority": 0.05,
        "rank_ic": 0.06,
        "lift_buy": 1.4,
        "matched_lift_buy": 1.08,
        "r2_over_prior": 0.005,
        "long_short_sharpe_ratio": 0.7,
    }
