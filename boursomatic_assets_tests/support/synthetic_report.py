"""Made-up inputs of the report, in the shape of the assets' values, and the report written from them."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.evaluation.survivors import PanelYear, Survivors
from boursomatic_assets.core.measures.detection import Detection
from boursomatic_assets.core.models.contributions import Contributions
from boursomatic_assets.display.report.importance import ReportImportance
from boursomatic_assets.display.report.writing import ReportModel, ReportProofs, report_page
from boursomatic_assets.storage.dagster.check_results import CheckResult
from boursomatic_assets_tests.support.pages import HOSTILE

HORIZON = 20
BOOKS = ("buy", "long_short", "equal_weight", "volatility", "momentum", "benchmark")
COSTS = (0, 5, 10, 20, 50)
MOMENT = datetime(2024, 3, 1, 18, 30, tzinfo=UTC)


def sessions_from(first: date, count: int) -> list[str]:
    days = (first + timedelta(days=day) for day in range(2 * count + 7))
    return [day.isoformat() for day in days if day.weekday() < 5][:count]


def figure(name: str, title: str, group: str, value: float | None, **others: Any) -> dict[str, Any]:  # noqa: ANN401
    empty = dict.fromkeys(("low", "high", "p_value", "no_skill", "baseline", "baseline_is", "why_undefined"))
    return {"name": name, "title": title, "group": group, "value": value, "unit": "number", **empty, **others}


FIGURES = [
    figure("rank_ic", "Rank IC", "ranking", 0.0123, low=-0.011, high=0.036, p_value=0.152, no_skill=0.0,
           baseline=0.0051, baseline_is="12-1 momentum"),
    figure("icir", "ICIR", "ranking", 0.081, no_skill=0.0),
    figure("accuracy", "Accuracy", "classification", 0.4312, low=0.41, high=0.452, no_skill=0.4187, baseline=0.4187,
           baseline_is="most frequent class", unit="percent", p_value=0.11),
    figure("buy_precision", "BUY precision", "classification", 0.2914, low=0.24, high=0.34, baseline=0.262,
           baseline_is="BUY base rate", unit="percent"),
    figure("matched_lift_buy", "BUY lift at equal volatility", "classification", 1.014, low=0.95, high=1.081,
           p_value=0.341, no_skill=1.0, baseline=1.0, baseline_is="base rate at equal volatility"),
    figure("matched_lift_sell", "SELL lift at equal volatility", "classification", None,
           why_undefined="SELL was never called"),
    figure("brier_skill", "Brier skill", "calibration", -0.0042, low=-0.012, high=0.004, no_skill=0.0,
           unit="percent", baseline=0.0, baseline_is="class shares of the training set"),
    figure("calibration_error", "Expected calibration error of BUY", "calibration", 0.0312, unit="percent"),
    figure("sharpe_ratio", "Sharpe ratio, BUY book, net", "portfolio", 0.61, low=-0.38, high=1.57, p_value=0.11,
           no_skill=0.0, baseline=0.74, baseline_is="equal weight"),
    figure("deflated_sharpe", "Deflated Sharpe", "portfolio", 0.31, no_skill=0.5),
    figure("max_drawdown", "Maximum drawdown, BUY book", "portfolio", -0.2231, unit="percent", baseline=-0.198,
           baseline_is="equal weight"),
    figure("r2", "R² over the training mean", "regression", -0.0031, low=-0.0092, high=0.0021, no_skill=0.0,
           unit="percent"),
]  # fmt: skip


# 505 symbols of which two end, and members held of members of each year.
SURVIVORS = Survivors(
    505, 2, date(2016, 1, 4), date(2017, 12, 29),
    (
        PanelYear(2016, 505, 2, date(2016, 6, 30), 504, 480),
        PanelYear(2017, 503, 0, date(2017, 6, 30), 505, 503),
    ),
)  # fmt: skip


def reach_of(title: str, sessions: int, error: float | None) -> dict[str, Any]:
    why = "" if error else "1 sessions have one, and 22 are needed"
    return Detection(title, sessions, math.nan if error is None else error, why).to_json()


def curves_of(sessions: list[str], seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    market = random.normal(0.0004, 0.009, len(sessions))
    books = {
        name: {"sessions": sessions, "returns": (market + random.normal(0, 0.003, len(sessions))).tolist()}
        for name in BOOKS
    }
    correlation: list[float | None] = random.normal(0.01, 0.15, len(sessions)).tolist()
    # A session on which all forecasts were alike has none.
    correlation[len(correlation) // 2] = None
    years = sorted({session[:4] for session in sessions})
    return {
        "books": books,
        "rank_ic": {"sessions": sessions, "values": correlation},
        "rank_ic_by_year": [
            {"year": int(year), "mean": float(random.normal(0.01, 0.02)), "sessions": 250} for year in years
        ],
        "reliability": [
            {"probability": 0.12 + 0.04 * part, "frequency": 0.16 + 0.026 * part, "rows": 5000 + 13 * part}
            for part in range(10)
        ],
        "precision_by_decile": [
            {
                "decile": part,
                "volatility": 0.08 + 0.04 * part,
                "calls": 90 * part,
                "precision": 0.1 + 0.03 * part if part > 1 else None,
                "base_rate": 0.11 + 0.026 * part,
            }
            for part in range(1, 11)
        ],
        "cost_sweep": [
            {
                "book": book,
                "cost_bps": cost,
                "sharpe": 0.8 - cost * slope,
                "annual_return": 0.09 - cost * slope / 10,
            }
            for book, slope in (("buy", 0.02), ("long_short", 0.04))
            for cost in COSTS
        ],
        "confusion": {
            "classes": ["BUY", "HOLD", "SELL"],
            "counts": [[3021, 5150, 4120], [2210, 8801, 3540], [2950, 6120, 5230]],
        },
    }


def evaluation_of(
    sessions: int = 190, symbols: int = 505, scope: str = "test set", seed: int = 1
) -> dict[str, Any]:
    days = sessions_from(date(2017, 5, 1), sessions)
    return {
        "scope": scope,
        "first_session": days[0],
        "last_session": days[-1],
        "sessions": sessions,
        "rows": sessions * symbols,
        "symbols": symbols,
        "horizon": HORIZON,
        "independent_periods": sessions / HORIZON,
        "threshold": {"tau": 0.31, "reason": "The smallest value whose lower bound beats the base rate."},
        "figures": [dict(found) for found in FIGURES],
        "could_have_been_seen": {
            "rank_ic": reach_of("Rank IC", sessions, 0.0115),
            "matched_rank_ic": reach_of("Rank IC at equal volatility", 1, None),
        },
        "survivors": SURVIVORS.to_json(),
        "comparisons": [
            {
                "baseline": baseline, "measure": measure, "difference": 0.00012, "low": -0.00021, "high": 0.00044,
                "statistic": 0.71, "p_value": None if measure == "log loss" else 0.24,
                "note": "forecasts that are fitted have no p-value" if measure == "log loss" else None,
            }
            for baseline, measure in (
                ("volatility-only classifier", "daily return"), ("volatility-only classifier", "log loss"),
                ("12-1 momentum", "daily return"), ("equal weight", "daily return"),
            )
        ],
        "superior_predictive_ability": {
            "p_value": 0.417,
            "against": ["volatility-only classifier", "12-1 momentum", "equal weight"],
            "null": "none of these books earns more than the BUY book",
        },
        "curves": curves_of(days, seed),
        "trials": {"count": 7, "sharpe_variance": 0.02},
        "verdict": {
            "skill": False,
            "sentence": "No evidence of skill: every interval of these figures holds what luck alone gives.",
            "remarks": [
                "About nine independent periods: only a large effect could show.",
                "The BUY book earned less than equal weight at the same cost.",
            ],
        },
    }  # fmt: skip


def walk_forward_of(sessions: int = 1500, folds: int = 8) -> dict[str, Any]:
    judged = evaluation_of(sessions, scope="walk-forward", seed=2)
    days = judged["curves"]["rank_ic"]["sessions"]
    size = sessions // folds
    judged["folds"] = [
        {
            "fold": fold + 1, "train_first": "2010-01-04", "train_last_label_end": days[fold * size],
            "test_first": days[fold * size], "test_last": days[(fold + 1) * size - 1],
            "train_rows": 90000 + 9000 * fold, "rows": 9400, "rank_ic": 0.02 - 0.005 * fold,
            "matched_lift_buy": 1.02 if fold else None, "accuracy": 0.43,
            "majority_accuracy": 0.42, "tau": 0.3 if fold % 2 else None,
        }
        for fold in range(folds)
    ]  # fmt: skip
    return judged


def contributions_of(features: tuple[str, ...] = FEATURE_NAMES, rows: int = 1000) -> Contributions:
    random = np.random.default_rng(5)
    inputs = random.normal(size=(rows, len(features)))
    inputs[:1, 0] = np.nan
    sizes = np.linspace(0.02, 0.2, len(features))
    values = np.stack([sign * np.nan_to_num(inputs) * sizes for sign in (1.0, 0.2, -0.9)], axis=1)
    values += random.normal(0, 0.01, values.shape)
    return Contributions(features, ("BUY", "HOLD", "SELL"), values, np.zeros((rows, 3)), inputs)


def importance_of(features: tuple[str, ...] = FEATURE_NAMES) -> ReportImportance:
    shares = np.arange(len(features), 0, -1) / sum(range(len(features) + 1))
    gains = pl.DataFrame({"feature": features, "classifier_gain": shares, "regressor_gain": shares[::-1]})
    return ReportImportance(gains, contributions_of(features))


PROOFS = ReportProofs(
    checks=(
        CheckResult("features", "the_future_is_not_read", "Features stay when what comes after is cut off.",
                    blocking=True, passed=True, evaluated_at=MOMENT),
        CheckResult("train_set", "sets_do_not_touch", "Every label ends before the next set begins.",
                    blocking=True, passed=False, evaluated_at=MOMENT),
        CheckResult("metrics", "figures_are_plausible", "No figure is better than such features can be.",
                    blocking=False),
    ),
    runs={
        "null": {"panels": 200, "share_of_p_values_below_0.05": {"rank_ic": 0.045, "sharpe_ratio": 0.06},
                 "mean_matched_lift": 1.002},
        "power": {"panels": 20, "found": 0.95},
        "leaks": [{"leak": "one bar ahead", "stopped_by": "the_future_is_not_read"},
                  {"leak": "no purge", "stopped_by": "sets_do_not_touch"}],
        "measured": "2024-02-27",
    },
)  # fmt: skip


def model_of(**changes: Any) -> ReportModel:  # noqa: ANN401
    experiment = Experiment()
    values: dict[str, Any] = {
        "version": "20240301T183000Z-1a2b3c",
        "params_hash": experiment.params_hash,
        "experiment": experiment.model_dump(mode="json"),
        "first_session": "2010-01-04",
        "last_session": "2024-02-29",
        "run_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "made_at": MOMENT,
        "code": {"package": "0.1.0", "source_sha256": "ab" * 32, "git": None},
        "packages": {"lightgbm": "4.7.0", "numpy": "2.4.6"},
    }
    return ReportModel(**{**values, **changes})


def report_of(evaluation: Any = None, walk_forward: Any = None, **parts: Any) -> str:  # noqa: ANN401
    return report_page(
        evaluation_of() if evaluation is None else evaluation,
        walk_forward,
        parts.get("importance") or importance_of(),
        parts.get("proofs") or PROOFS,
        parts.get("model") or model_of(),
    )


def poisoned(value: Any, text: str = HOSTILE) -> Any:  # noqa: ANN401
    """Every text replaced, dates but in curves too: what a symbol, a reason or an exchange could be called."""
    if isinstance(value, dict):
        return {name: poisoned(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    return text if isinstance(value, str) else value


def poisoned_report(text: str) -> str:
    """The report with a text wherever a name, a reason or a version stands."""
    evaluation, walk_forward = poisoned(evaluation_of(), text), poisoned(walk_forward_of(60, 2), text)
    evaluation["curves"]["books"] = {text: evaluation["curves"]["books"]["buy"]}
    # Ids of two chapters differ.
    walk_forward["scope"] = f"{text}-2"
    proofs = ReportProofs(
        [dataclasses.replace(check, asset=text, name=text, description=text) for check in PROOFS.checks],
        {text: {text: text}, "leaks": [{text: text}], "notes": [text]},
    )
    model = model_of(
        version=text, run_id=text, params_hash=text, first_session=text, last_session=text, experiment={text: text},
        packages={text: text}, code={"package": text, "source_sha256": text, "git": text}, no_walk_forward=text,
    )  # fmt: skip
    return report_of(evaluation, walk_forward, importance=importance_of((text,)), proofs=proofs, model=model)
