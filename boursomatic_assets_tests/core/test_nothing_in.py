"""Every public function that measures gives no figure of inputs that are empty, one row or all null.

Functions are collected by inspection: a new one is tested too, or listed here with a reason.
"""

from __future__ import annotations

import importlib
import inspect
import math
from dataclasses import fields, is_dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.evaluation.book_figures import (
    Trials,
    better_baseline,
    book_comparisons,
    book_figures,
    cost_sweep,
)
from boursomatic_assets.core.evaluation.evaluation import Suspects
from boursomatic_assets.core.evaluation.plausibility import AT_MOST
from boursomatic_assets.core.evaluation.session_sums import session_sums
from boursomatic_assets.core.evaluation.survivors import Survivors
from boursomatic_assets.core.evaluation.verdict import PRIMARY, Verdict
from boursomatic_assets.core.measures.figures import Figure
from boursomatic_assets.core.measures.resampling import superior_predictive_ability
from boursomatic_assets.core.models.predictions import SET_TYPE
from boursomatic_assets.core.portfolio.book import TRADE_SCHEMA, BookSpec, TrancheBook, positions, tranche_book
from boursomatic_assets.core.portfolio.books import BOOK_NAMES, BOOK_TYPE, PORTFOLIO_SCHEMA
from boursomatic_assets.core.registry.contenders import LOSS
from boursomatic_assets.errors import BoursomaticError, PanelContractError
from boursomatic_assets_tests.support.judged import EXPERIMENT, HORIZON, judged_panel
from boursomatic_assets_tests.support.strategies import weekdays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# By room.
MODULES = {
    "portfolio": ("benchmark", "book", "books", "tranches"),
    "measures": (
        "calibration", "classification", "figures", "forecasts", "inference", "performance", "ranking",
        "resampling",
    ),
    "models": ("threshold",),
    "evaluation": (
        "book_figures", "curves", "judging", "metrics", "plausibility", "price_moves", "scores", "session_sums",
        "suspects",
        "verdict",
    ),
    "registry": ("comparison",),
}  # fmt: skip
KINDS = ("empty", "one row", "all null")
# No series, set or table goes in.
WITHOUT_SERIES = {
    "figures.finite": "one number",
    "classification.ratio": "two numbers; tested with the function that divides",
    "classification.probability_columns": "names of columns",
    "plausibility.most_plausible": "the bound of a name",
    "resampling.superior_predictive_ability": "tested below: its two inputs are read together",
    "performance.expected_max_sharpe": "two numbers",
    "plausibility.growth_bound": "a bound of two numbers",
    "plausibility.why_too_good": "a sentence of figures that were measured",
    "plausibility.rmse_bound": "a bound of one number",
    "suspects.impossible_prices": "a sentence of moves that were found",
}
# What comes out is no figure.
NO_FIGURE = {
    "performance.wealth": "the starting capital of 1 comes first",
    "performance.drawdown": "at its start wealth is at its peak",
    "calibration.fit_temperature": "1 leaves probabilities as they are",
    "classification.confusion_counts": "counts of rows",
    "resampling.bootstrap_weights": "counts of draws",
    "books.book_calls": "sides of calls, as many as rows",
    "threshold.with_calls": "the rows that came in, with a call",
    "threshold.judged_rows": "the rows that came in, with a call",
    "tranches.sided_calls": "sides of calls, as many as rows",
    "suspects.with_benchmark": "the closes that came in",
    "benchmark.benchmark_closes": "the closes that came in",
    "book.tranche_book": "a book that holds nothing is in cash, and its exposure is 0",
    "book.tranche_books": "as tranche_book",
    "book.closes_of_books": "the closes that came in",
    "book.positions": "weights that are held",
    "book.trades": "weights that are traded",
    "books.books_of": "the table that came in, as books",
    "books.detail_table": "weights of the books that came in",
    "books.portfolio_table": "the books that came in, as a table",
    "books.judged_books": "books, measured elsewhere: one session of calls has its outcome",
    "books.index_book": "returns of the closes that came in",
    "book_figures.aligned_returns": "the returns that came in",
    "inference.clark_west_terms": "terms of the rows that came in",
    "price_moves.close_ratios": "the closes that came in",
    "session_sums.session_sums": "sums of the rows that came in",
    "classification.matched_hits": "sums of the rows that came in",
    "classification.volatility_deciles": "the rows that came in, with their decile",
    "ranking.volatility_groups": "the rows that came in, with their group",
    "calibration.calibrate": "probabilities that came in",
    "calibration.calibration_bins": "the rows that came in, with their bin",
}
# One row, or one session, has them.
ONE_IS_ENOUGH = {
    "classification.mean_of": "the mean of one number",
    "comparison.compare": "means of one row; no interval, no p-value",
    "threshold.choose_threshold": "a share of one call, which decides nothing: there are too few sessions",
    "threshold.threshold_of": "a share of one call, which decides nothing: there are too few sessions",
    "classification.accuracy": "a share of one row",
    "classification.constant_accuracy": "a share of one row",
    "classification.buy_precision": "a share of one call",
    "classification.buy_lift": "a ratio of two shares",
    "classification.class_figures": "shares of one row",
    "classification.classification_report": "shares of one row",
    "classification.class_shares": "shares of one row",
    "calibration.log_loss": "a mean of one row",
    "calibration.brier_score": "a mean of one row",
    "calibration.brier_skill": "a ratio of two means",
    "calibration.reliability_curve": "a bin of one row",
    "calibration.expected_calibration_error": "a distance of one row",
    "classification.matched_lift": "a ratio of two shares",
    "classification.precision_by_decile": "a decile of one row",
    "inference.ratio_test": "the ratio of two sums, without interval or p-value",
    "performance.total_return": "one session has a return",
    "performance.annual_return": "one session has a return",
    "performance.max_drawdown": "one session has a return",
    "performance.hit_rate": "a share of one session",
    "forecasts.mean_absolute_error": "an error of one row",
    "forecasts.root_mean_squared_error": "an error of one row",
    "forecasts.r2_over_prior": "a ratio of two errors",
    "book_figures.book_values": "one session has a return",
    "book_figures.book_figures": "one session has a return; no interval, no p-value",
    "book_figures.cost_sweep": "one session has a return",
    "scores.scores": "shares and means of one row; no interval, no p-value",
    "curves.curves": "returns and rank IC that came in, shares of one row",
    "judging.evaluate_judged": "shares, means and returns of one session; no p-value",
    "ranking.rank_ic_by_year": "the mean of one session",
}
DAYS = weekdays(30)
PANEL = judged_panel(4, 12, seed=1).with_columns(
    pl.lit("validation").cast(SET_TYPE).alias("set"), pl.lit(1.0).alias(LOSS), label_end=pl.col("session")
)
NUMBERS = {
    "horizon": HORIZON, "overlap": HORIZON, "lag": HORIZON - 1, "lags": 2, "block": HORIZON, "draws": 100,
    "seed": 1,
    "cost_bps": 10.0, "min_sessions": 2, "temperature": 2.0, "tau": 0.4, "variance": 0.1, "periods": 2.0,
    "experiment": EXPERIMENT, "scope": "test set", "symbol": "SPY", "remedy": "bring it", "name": "BUY",
    "first": DAYS[0], "last": DAYS[5], "names": ("buy",), "bins": 10, "benchmark": 0.0, "null": 0.0,
    "legs": "long", "stored": {"tau": None, "reason": "", "temperature": 1.0, "candidates": []},
    "prior": np.array([0.3, 0.45, 0.25]), "details": positions, "known": (),
}  # fmt: skip


def rows(panel: pl.DataFrame, kind: str) -> pl.DataFrame:
    """No row, the first, or all with nulls but for symbol, session and set."""
    kept = ("symbol", "session", "set", "book")
    nothing = [pl.lit(None, dtype).alias(name) for name, dtype in panel.schema.items() if name not in kept]
    return {"empty": panel.clear(), "one row": panel.head(1), "all null": panel.with_columns(nothing)}[kind]


def series(kind: str) -> np.ndarray:
    return {"empty": np.empty(0), "one row": np.array([0.01]), "all null": np.full(30, math.nan)}[kind]


def book(kind: str) -> TrancheBook:
    returns = series(kind)
    return TrancheBook(tuple(DAYS[: len(returns)]), returns, np.zeros(len(returns)), np.ones(len(returns)))


def judged_figures(kind: str) -> list[Figure]:
    names = () if kind == "empty" else {*PRIMARY, *AT_MOST, "buy_sharpe_ratio"}
    return [Figure(name, name, "ranking", math.nan) for name in sorted(names)]


def metric_figures(kind: str) -> dict[str, float]:
    accuracies = [f"{name}_{who}_accuracy" for name in ("val", "test") for who in ("most_probable", "majority")]
    return {} if kind == "empty" else dict.fromkeys((*accuracies, *(f"test_{name}" for name in AT_MOST)), math.nan)


CLOSES = PANEL.select(
    "symbol", "session", close=pl.lit(100.0), explained=pl.lit(value=False), exchange=pl.lit("XNYS")
)
PORTFOLIO = pl.DataFrame(
    {
        "book": ["buy", "long_short"],
        "session": DAYS[:2],
        **{name: [0.0, 0.0] for name in list(PORTFOLIO_SCHEMA)[2:]},
    },
    schema=PORTFOLIO_SCHEMA,
)
COEFFICIENTS = pl.DataFrame({"session": DAYS[:5], "rank_ic": [0.1] * 5})
TRADES = pl.DataFrame(schema={"book": BOOK_TYPE, **TRADE_SCHEMA})


def argument(parameter: inspect.Parameter, kind: str) -> Any:  # noqa: ANN401, C901, PLR0911 (all that functions take)
    """What a function is given for a parameter, by its name and annotation."""
    name, annotation = parameter.name, str(parameter.annotation)
    if "dict[str, TrancheBook]" in annotation or "Mapping[str, TrancheBook]" in annotation:
        return {} if kind == "empty" else {title: book(kind) for title in BOOK_NAMES}
    special: dict[tuple[str, str], Any] = {
        ("predictions", "pl.DataFrame"): PANEL,
        ("closes", "pl.DataFrame"): CLOSES,
        ("benchmark", "pl.DataFrame"): CLOSES.select("session", "close").unique("session"),
        ("labels", "pl.DataFrame"): PANEL.with_columns(close=pl.lit(100.0)),
        ("portfolio", "pl.DataFrame"): PORTFOLIO,
        ("trades", "pl.DataFrame"): TRADES,
        ("calendar", "pl.Series"): None,
        ("rank_ic", "pl.DataFrame"): COEFFICIENTS,
    }
    table = annotation.removesuffix(" | None")
    if (name, table) in special:
        return rows(special[name, table], kind)
    if name == "sessions" and table == "pl.DataFrame":
        sums = session_sums(PANEL).with_columns(rank_ic=0.1)
        return rows(sums.filter(pl.col("session").is_in(DAYS[:5])), kind)
    if table == "pl.DataFrame":
        return rows(PANEL, kind)
    if table == "pl.Series":
        return rows(PANEL, kind)["label"]
    if "np.ndarray" in annotation and name == "probabilities":
        names = [f"probability_{name}" for name in ("buy", "hold", "sell")]
        return rows(PANEL, kind).select(names).to_numpy().astype(float)
    if "np.ndarray" in annotation and name not in NUMBERS:
        return series(kind)
    made: dict[str, Callable[[str], Any]] = {
        "TrancheBook": book,
        "Sequence[Figure]": judged_figures,
        "Mapping[str, BookSpec]": lambda kind: {"buy": BookSpec(rows(CLOSES, kind).select("symbol", "session"))},
        "Mapping[str, float]": metric_figures,
        "Suspects": lambda _: Suspects.model_construct(sentence=None, possible=True),
        "Sequence[date]": lambda kind: DAYS[:5] if kind == "all null" else DAYS[: len(series(kind))],
        "Verdict": lambda _: Verdict(skill=False, sentence="No evidence of skill.", remarks=()),
        "Trials": lambda _: Trials(),
        "Comparison": lambda _: None,
        "Survivors": lambda _: Survivors(0, 0, DAYS[0], DAYS[-1], ()),
    }
    if name == "stored":
        return NUMBERS[name]
    if table in made:
        return made[table](kind)
    if name == "trials":
        return 2
    if name == "count":
        return len(series(kind)) if kind == "one row" else 0
    return NUMBERS[name]


def called(function: Callable[..., Any], kind: str) -> Any:  # noqa: ANN401 (whatever the function gives)
    """Give a function what it takes: what has a default and is no series keeps it."""
    given = {
        parameter.name: argument(parameter, kind)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty or "pl." in str(parameter.annotation)
    }
    return function(**given)


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:  # noqa: ANN401, C901 (all that they give)
    """Every number in a result that could be taken for a figure."""
    if isinstance(value, bool | str | date | None):
        return
    if isinstance(value, float | int | np.number):
        if math.isfinite(value) and name not in COUNTS:
            yield name, float(value)
    elif isinstance(value, pl.DataFrame | pl.Series):
        frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
        for column in frame.get_columns():
            if column.dtype.is_numeric():
                yield from (
                    (column.name, item) for item in column.drop_nulls().drop_nans() if column.name not in COUNTS
                )
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, str(key))
    elif isinstance(value, list | tuple | np.ndarray):
        for item in value:
            yield from numbers(item, name)
    elif is_dataclass(value):
        for field in fields(value):
            yield from numbers(getattr(value, field.name), field.name)


# How much there was to measure, and what a figure is read beside.
COUNTS = {
    "rows", "sessions", "symbols", "names", "covered", "without_bar", "moves_found", "count", "calls",
    "tau",
    "before_its_first", "after_its_last", "temperature", "horizon",
    "independent_periods",
    "sharpe_variance", "support",
    "cost_bps", "instruments", "counts", "no_skill", "year",
}  # fmt: skip


def public_functions() -> dict[str, Callable[..., Any]]:
    found = {}
    for room, name in [(room, name) for room, names in MODULES.items() for name in names]:
        module = importlib.import_module(f"boursomatic_assets.core.{room}.{name}")
        for function_name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not function_name.startswith("_"):
                found[f"{name}.{function_name}"] = function
    return found


FUNCTIONS = public_functions()
TESTED = [(name, kind) for name in FUNCTIONS if name not in WITHOUT_SERIES for kind in KINDS]


@pytest.mark.parametrize(("name", "kind"), TESTED)
def test_public_functions_give_no_figure_or_an_error_of_nothing(name: str, kind: str) -> None:
    try:
        result = called(FUNCTIONS[name], kind)
    except (BoursomaticError, ValueError) as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert len(said) > 20, said
        assert "zero-size" not in said
        return
    if name in NO_FIGURE or (kind == "one row" and name in ONE_IS_ENOUGH):
        return
    assert list(numbers(result)) == []


@pytest.mark.parametrize("listed", [WITHOUT_SERIES, NO_FIGURE, ONE_IS_ENOUGH])
def test_exceptions_name_a_function_and_a_reason(listed: dict[str, str]) -> None:
    assert set(listed) <= set(FUNCTIONS)
    assert all(listed.values())


@pytest.mark.parametrize("name", sorted(ONE_IS_ENOUGH))
def test_public_functions_give_no_p_value_of_one_row(name: str) -> None:
    try:
        result = called(FUNCTIONS[name], "one row")
    except (BoursomaticError, ValueError):
        return
    tested = ("p_value", "low", "high", "statistic", "error")
    assert [found for found in numbers(result) if found[0] in tested] == []


def test_superior_predictive_ability_of_nothing_has_no_p_value() -> None:
    nothing, one, unknown = series("empty"), series("one row"), series("all null")
    for returns in (nothing, one, unknown):
        for others in ({}, {"momentum": returns}):
            assert math.isnan(superior_predictive_ability(returns, others, 1, 100, 1))


def test_book_figures_of_nothing_have_no_sharpe_ratio_and_no_p_value() -> None:
    cash = book("empty")
    nothing = dict.fromkeys(BOOK_NAMES, cash)
    assert list(numbers([figure.to_json() for figure in book_figures(nothing, Trials(), EXPERIMENT)])) == []
    assert list(numbers(book_comparisons(nothing, HORIZON))) == []
    assert better_baseline(nothing, EXPERIMENT)["p_value"] is None
    assert [row["sharpe"] for row in cost_sweep(nothing)] == [None] * 10
    assert [row["annual_return"] for row in cost_sweep(nothing)] == [None] * 10


def test_tranche_book_refuses_a_call_on_a_null_close() -> None:
    calls = CLOSES.head(1).select("symbol", "session")
    with pytest.raises(PanelContractError, match="1 have none"):
        tranche_book(calls, rows(CLOSES, "all null"), HORIZON, 0.0)
