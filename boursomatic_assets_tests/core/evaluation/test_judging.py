from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import confusion_matrix

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.evaluation.book_figures import BOOK_TITLES, Trials
from boursomatic_assets.core.evaluation.evaluation import Evaluation
from boursomatic_assets.core.evaluation.judging import evaluate_judged
from boursomatic_assets.core.evaluation.recorded import RecordedFigure
from boursomatic_assets.core.evaluation.survivors import find_survivors, panel_spans
from boursomatic_assets.core.evaluation.verdict import PRIMARY
from boursomatic_assets.core.measures.calibration import reliability_curve
from boursomatic_assets.core.measures.classification import precision_by_decile
from boursomatic_assets.core.measures.ranking import rank_ic
from boursomatic_assets.core.models.predictions import SET_TYPE
from boursomatic_assets.core.models.threshold import judged_rows
from boursomatic_assets.core.portfolio.books import BOOK_NAMES, judged_books
from boursomatic_assets_tests.support.judged import EXPERIMENT, HORIZON, judged_panel, poor_panels
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from boursomatic_assets.core.portfolio.book import TrancheBook

SYMBOLS, SESSIONS = 20, 40
JUDGED = judged_panel(SYMBOLS, SESSIONS, seed=1)


SURVIVORS = find_survivors(panel_spans(JUDGED))


def walk_closes(symbols: int, sessions: int, seed: int) -> pl.DataFrame:
    """Closes of random walks over the judged sessions and the horizon after them."""
    count = sessions + HORIZON + 1
    moves = np.random.default_rng(seed).normal(0, 0.02, (symbols, count))
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03d}" for number in range(symbols)], count).tolist(),
            "session": weekdays(count) * symbols,
            "close": (100 * np.exp(moves.cumsum(axis=1))).ravel(),
        }
    )


CLOSES = walk_closes(SYMBOLS, SESSIONS, seed=2)
INDEX = CLOSES.group_by("session").agg(pl.col("close").mean()).sort("session")


def books_of(judged: pl.DataFrame, benchmark: pl.DataFrame | None = INDEX) -> dict[str, TrancheBook]:
    return judged_books(judged, CLOSES, HORIZON, EXPERIMENT.cost_bps, benchmark)


def evaluated(judged: pl.DataFrame, trials: Trials = Trials()) -> dict[str, Any]:  # noqa: B008 (frozen)
    """An evaluation as it is stored."""
    return evaluate_judged(judged, books_of(judged), EXPERIMENT, "test set", trials, SURVIVORS).to_json()


BOOKS = books_of(JUDGED)
EVALUATION = evaluated(JUDGED)


def shape_of(value: Any) -> Any:  # noqa: ANN401 (JSON)
    """Keys of an object, or of the first of a list of objects; the type of anything else."""
    if isinstance(value, list) and value:
        return shape_of(value[0])
    return set(value) if isinstance(value, dict) else type(value).__name__


PARTS = {
    "closed_at_last_price": {"rows", "symbols"},
    "figures": {
        "name", "title", "group", "value", "low", "high", "p_value", "no_skill", "baseline", "baseline_is", "unit",
        "why_undefined",
    },
    "could_have_been_seen": {"rank_ic", "matched_rank_ic"},
    "survivors": {
        "symbols", "ended", "sessions_to_end", "first_session", "last_session", "memberships_known", "by_year",
        "sentence",
    },
    "comparisons": {"baseline", "measure", "difference", "low", "high", "statistic", "p_value", "note"},
    "superior_predictive_ability": {"p_value", "against", "null"},
    "curves": {
        "books", "rank_ic", "rank_ic_by_year", "reliability", "precision_by_decile", "cost_sweep", "confusion",
    },
    "trials": {"count", "sharpe_variance"},
    "benchmark": {
        "symbol", "first", "last", "sessions", "covered", "before_its_first", "after_its_last", "without_bar",
        "sentence",
    },
    "suspects": {
        "instruments", "moves", "moves_found", "instruments_grown", "book_sessions", "figures", "possible",
        "sentence",
    },
    "verdict": {"skill", "sentence", "remarks"},
}  # fmt: skip
# 40 weekdays from Monday 2018-01-01 on are eight weeks; 40 sessions of a horizon of 5 are 8 periods.
MEASURED = {
    "scope": "test set", "first_session": "2018-01-01", "last_session": "2018-02-23", "sessions": 40, "rows": 800,
    "symbols": 20, "horizon": 5, "independent_periods": 8.0,
}  # fmt: skip


def test_evaluation_has_these_parts_and_says_what_was_measured() -> None:
    assert {name: shape_of(EVALUATION[name]) for name in PARTS} == PARTS
    assert {name: part for name, part in EVALUATION.items() if name not in PARTS} == MEASURED


def test_figures_have_unique_names_and_known_groups_and_units() -> None:
    figures = EVALUATION["figures"]
    assert len({figure["name"] for figure in figures}) == len(figures)
    groups = {"ranking", "classification", "calibration", "regression", "portfolio"}
    assert {figure["group"] for figure in figures} == groups
    assert {figure["unit"] for figure in figures} == {"number", "percent"}
    assert {figure["name"] for figure in figures} >= set(PRIMARY)


def test_evaluation_does_not_depend_on_the_order_of_the_rows() -> None:
    shuffled = JUDGED.sample(fraction=1.0, shuffle=True, seed=3)
    again = evaluate_judged(shuffled, BOOKS, EXPERIMENT, "test set", Trials(), SURVIVORS)
    assert again == Evaluation.model_validate(EVALUATION)
    # Nor for the books that follow the calls; equal inputs give equal, strict JSON.
    written = json.dumps(EVALUATION, allow_nan=False)
    assert json.loads(written) == EVALUATION
    assert json.dumps(evaluated(shuffled)) == written


def test_curves_are_those_of_the_books_and_measures() -> None:
    curves = EVALUATION["curves"]
    assert tuple(curves["books"]) == BOOK_NAMES
    for name, book in BOOKS.items():
        assert curves["books"][name]["returns"] == book.returns.tolist()
        assert curves["books"][name]["sessions"][0] == str(book.sessions[0])
        assert len(curves["books"][name]["sessions"]) == len(book.returns)
    coefficients = rank_ic(JUDGED)
    assert curves["rank_ic"]["sessions"] == [str(day) for day in coefficients["session"]]
    assert curves["rank_ic"]["values"] == coefficients["rank_ic"].to_list()
    (year,) = curves["rank_ic_by_year"]
    assert year == {"year": 2018, "mean": pytest.approx(coefficients["rank_ic"].mean()), "sessions": 40}
    assert_frame_equal(pl.DataFrame(curves["reliability"]), reliability_curve(JUDGED))
    assert_frame_equal(pl.DataFrame(curves["precision_by_decile"]), precision_by_decile(JUDGED), check_dtypes=False)
    assert set(curves["cost_sweep"][0]) == {"book", "cost_bps", "sharpe", "annual_return"}


def test_confusion_counts_true_classes_by_called_ones() -> None:
    labels, calls = (JUDGED[name].cast(pl.String).to_numpy() for name in ("label", "call"))
    confusion = EVALUATION["curves"]["confusion"]
    assert confusion["classes"] == list(CLASS_NAMES)
    assert confusion["counts"] == confusion_matrix(labels, calls, labels=CLASS_NAMES).tolist()


def test_trials_are_counted_and_remarked() -> None:
    tried = evaluated(JUDGED, Trials(12, 0.004))
    assert tried["trials"] == {"count": 12, "sharpe_variance": 0.004}
    assert any(remark.startswith("12 distinct experiments") for remark in tried["verdict"]["remarks"])
    # They change the deflated Sharpe ratios, what is said of them, and nothing else.
    changed = {
        figure["name"]
        for figure, other in zip(tried["figures"], EVALUATION["figures"], strict=True)
        if figure != other
    }
    assert changed == {"buy_deflated_sharpe", "long_short_deflated_sharpe"}


def test_verdict_of_unrelated_labels_and_calls_is_no_skill() -> None:
    verdict = EVALUATION["verdict"]
    # Labels, calls and prices that know nothing of each other.
    assert verdict["skill"] is False
    assert verdict["sentence"].startswith("No evidence of skill: ")
    assert verdict["remarks"][0].startswith("Sessions overlap: they hold about 8 independent horizons")


def with_foresight(judged: pl.DataFrame) -> pl.DataFrame:
    return judged.with_columns(predicted_return="forward_return", call="label")


def test_verdict_of_foresight_is_skill_that_is_too_good() -> None:
    verdict = evaluated(with_foresight(JUDGED))["verdict"]
    assert verdict["skill"] is True
    # Every symbol of the panel is there on its last session.
    assert verdict["sentence"].startswith("Evidence of skill, among survivors only: no symbol of this panel stops")
    assert any("Look for a leak before being glad" in remark for remark in verdict["remarks"])


def p_values(evaluation: dict[str, Any]) -> dict[str, float]:
    return Evaluation.model_validate(evaluation).p_values


def reported(part: Any) -> list[float]:  # noqa: ANN401 (JSON)
    """Every number under the name `p_value`, wherever it stands."""
    if isinstance(part, dict):
        own = [part["p_value"]] if part.get("p_value") is not None else []
        return own + [p_value for value in part.values() for p_value in reported(value)]
    return [p_value for value in part for p_value in reported(value)] if isinstance(part, list) else []


def test_p_values_list_each_once_under_its_own_name() -> None:
    listed = p_values(EVALUATION)
    # A name that two of them shared would lose one.
    assert sorted(listed.values()) == sorted(reported(EVALUATION))
    assert set(listed) == {
        *("rank_ic", "matched_rank_ic", "selection_lift_buy", "r2_over_prior"),
        *(f"{book}_{name}" for book in ("buy", "long_short")
          for name in ("sharpe_ratio", "probabilistic_sharpe", "deflated_sharpe")),
        *(f"daily return over {title}" for title in BOOK_TITLES.values()),
        "superior_predictive_ability",
    }  # fmt: skip
    assert all(0 <= p_value <= 1 for p_value in listed.values())


POOR = poor_panels(JUDGED)


@pytest.mark.parametrize("case", POOR)
def test_evaluation_of_poor_rows_has_null_with_a_reason(case: str) -> None:
    evaluation = evaluated(POOR[case])
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    assert evaluation.keys() == EVALUATION.keys()
    for figure in evaluation["figures"]:
        assert (figure["value"] is None) == bool(figure["why_undefined"])
    assert evaluation["verdict"]["sentence"].startswith("No evidence of skill: ")
    assert "nan" not in json.dumps(evaluation["verdict"])
    assert sorted(p_values(evaluation).values()) == sorted(reported(evaluation))


def test_evaluation_without_a_benchmark_has_no_such_book() -> None:
    books = books_of(JUDGED, None)
    evaluation = evaluate_judged(JUDGED, books, EXPERIMENT, "walk-forward", Trials(), SURVIVORS).to_json()
    assert evaluation["scope"] == "walk-forward"
    assert "benchmark" not in evaluation["curves"]["books"]
    assert "daily return over benchmark index" not in p_values(evaluation)


@pytest.mark.parametrize(
    ("value", "low", "high", "inside"),
    [(0.4, 0.4, 0.6, True), (0.7, 0.4, 0.6, False), (None, 0.4, 0.6, False), (0.5, None, None, True)],
)
def test_recorded_figure_is_inside_its_interval(
    value: float | None, low: float | None, high: float | None, *, inside: bool
) -> None:
    figure = RecordedFigure(name="a", title="A", group="ranking", value=value, low=low, high=high)
    assert figure.is_inside is inside


BASELINE_COLUMNS = [name for name in JUDGED.columns if name.startswith(("volatility_", "prior_", "momentum"))]


def test_judged_rows_are_of_one_set_with_calls_and_baselines() -> None:
    sets = pl.when(pl.col("session") < weekdays(20)[-1]).then(pl.lit("validation")).otherwise(pl.lit("test"))
    both = JUDGED.with_columns(set=sets.cast(SET_TYPE))
    predictions = both.drop("call", *BASELINE_COLUMNS)
    baselines = both.select("symbol", "session", "set", *BASELINE_COLUMNS)
    shuffled = baselines.sample(fraction=1.0, shuffle=True, seed=4)
    test = both.filter(pl.col("set") == "test").drop("set")
    found = judged_rows(predictions, shuffled, None)
    # Without a threshold the most probable class is called, as it was here.
    assert_frame_equal(found, test, check_column_order=False)
    validation = judged_rows(predictions, shuffled, None, "validation")
    assert validation.height + found.height == JUDGED.height
    # No probability reaches 2: nothing is bought.
    assert (judged_rows(predictions, shuffled, 2.0)["call"] != "BUY").all()
    # A row that no baseline knows stays, with nothing beside it.
    alone = judged_rows(predictions, baselines.filter(pl.col("symbol") != "S000"), None)
    assert_frame_equal(alone.select(JUDGED.columns).drop(BASELINE_COLUMNS), test.drop(BASELINE_COLUMNS))
    assert alone["prior_return"].null_count() == test.filter(pl.col("symbol") == "S000").height
