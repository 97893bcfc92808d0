from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.splits import Split
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.models.threshold import Threshold
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import Bundle, build_bundle, sha256
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.core.registry.reproduction import (
    EnvironmentChange,
    changes_by_symbol,
    compare_panels,
    compare_parts,
    environment_changes,
    first_difference,
)
from boursomatic_assets.core.registry.retraining import Retrained

# By symbol and number of the day: close, ret_1d, rsi_14.
Rows = dict[tuple[str, int], tuple[float, float | None, float | None]]
DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(6)]


def panel(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(
        [(symbol, DAYS[day], *values) for (symbol, day), values in sorted(rows.items())],
        schema={
            "symbol": pl.String, "session": pl.Date, "close": pl.Float64, "ret_1d": pl.Float64,
            "rsi_14": pl.Float64,
        },
        orient="row",
    )  # fmt: skip


THEN: Rows = {
    ("AAA", 1): (10.0, None, None),
    ("AAA", 2): (11.0, 0.1, 50.0),
    ("AAA", 3): (12.0, 0.09, 60.0),
    ("BBB", 1): (5.0, 0.0, 40.0),
    ("BBB", 3): (5.0, 0.0, 41.0),
}
FEATURES = ("ret_1d", "rsi_14")


def changes(now: Rows) -> list[tuple[Any, ...]]:
    return compare_panels(panel(THEN), panel(now), FEATURES).rows()


def test_compare_panels_of_equal_ones_is_empty() -> None:
    assert changes(THEN) == []
    assert changes_by_symbol(compare_panels(panel(THEN), panel(THEN), FEATURES)).is_empty()


def test_compare_panels_names_each_kind_of_change() -> None:
    now = {
        ("AAA", 1): (10.0, 0.5, None),
        ("AAA", 2): (5.5, 0.1, 51.0),
        ("AAA", 3): (12.0, 0.09, None),
        ("BBB", 1): (5.0, 0.0, 40.0),
        ("BBB", 2): (6.0, 0.2, 45.0),
    }
    assert changes(now) == [
        ("AAA", DAYS[1], "features", 10.0, 10.0, ["ret_1d"]),
        ("AAA", DAYS[2], "close", 11.0, 5.5, ["rsi_14"]),
        ("AAA", DAYS[3], "features", 12.0, 12.0, ["rsi_14"]),
        ("BBB", DAYS[2], "new", None, 6.0, []),
        ("BBB", DAYS[3], "gone", 5.0, None, []),
    ]


def test_compare_panels_covers_the_sessions_of_the_snapshot() -> None:
    # The snapshot spans days 1 to 3: bars before have left the lookback, bars after had not been traded.
    assert changes({**THEN, ("AAA", 0): (9.0, 0.0, 0.0), ("CCC", 4): (1.0, 0.0, 0.0)}) == []
    assert changes({**THEN, ("CCC", 3): (1.0, 0.0, 0.0)}) == [("CCC", DAYS[3], "new", None, 1.0, [])]


def test_compare_panels_ignores_rounding() -> None:
    # 12 * (1 + 1e-12) differs by 1.2e-11, less than 12e-9; 12.000012 by 1.2e-5, more. 1e-17 against 0 is noise
    # of a sum; 1e-11 against 0 is beyond 1e-12.
    noise = {**THEN, ("AAA", 3): (12.0 * (1 + 1e-12), 0.09, 60.0), ("BBB", 1): (5.0, 1e-17, 40.0)}
    assert changes(noise) == []
    moved = {**THEN, ("AAA", 3): (12.000012, 0.09, 60.0), ("BBB", 1): (5.0, 1e-11, 40.0)}
    assert [(row[0], row[2]) for row in changes(moved)] == [("AAA", "close"), ("BBB", "features")]


def test_changes_by_symbol_begin_with_the_most_affected() -> None:
    now = {
        ("AAA", 1): (10.0, None, 1.0),
        ("AAA", 2): (22.0, 0.1, 50.0),
        ("AAA", 3): (24.0, 0.09, 60.0),
        ("BBB", 1): (5.0, 0.0, 40.0),
    }
    found = changes_by_symbol(compare_panels(panel(THEN), panel(now), FEATURES)).rows(named=True)
    assert found == [
        {
            "symbol": "AAA", "rows": 3, "first": DAYS[1], "last": DAYS[3], "gone": 0, "new": 0, "close": 2,
            "features": 1, "close_session": DAYS[2], "close_then": 11.0, "close_now": 22.0,
        },
        {
            "symbol": "BBB", "rows": 1, "first": DAYS[3], "last": DAYS[3], "gone": 1, "new": 0, "close": 0,
            "features": 0, "close_session": None, "close_then": None, "close_now": None,
        },
    ]  # fmt: skip


values = st.tuples(
    st.sampled_from([1.0, 2.0]), st.sampled_from([None, 0.0, 0.1]), st.sampled_from([None, 30.0, 70.0])
)
panels = st.dictionaries(st.tuples(st.sampled_from(["AAA", "BBB"]), st.integers(0, 5)), values, min_size=1)


@given(then=panels, now=panels)
def test_compare_panels_agrees_with_dictionaries(then: Rows, now: Rows) -> None:
    first, last = min(day for _, day in then), max(day for _, day in then)
    spanned = {key: row for key, row in now.items() if first <= key[1] <= last}
    expected = sorted(key for key in {*then, *spanned} if then.get(key) != spanned.get(key))
    found = compare_panels(panel(then), panel(now), FEATURES)
    assert [(row[0], DAYS.index(row[1])) for row in found.rows()] == expected
    kinds = {key: row[2] for key, row in zip(expected, found.rows(), strict=True)}
    for key, kind in kinds.items():
        before, after = then.get(key), spanned.get(key)
        wanted = (
            "new" if before is None
            else "gone" if after is None
            else "close" if before[0] != after[0]
            else "features"
        )  # fmt: skip
        assert kind == wanted


@given(then=panels, now=panels)
def test_changes_by_symbol_hold_every_row_once(then: Rows, now: Rows) -> None:
    found = compare_panels(panel(then), panel(now), FEATURES)
    summed = changes_by_symbol(found)
    assert summed["rows"].sum() == found.height
    kinds = summed.select("gone", "new", "close", "features").sum_horizontal()
    assert_frame_equal(pl.DataFrame(kinds.alias("rows")), summed.select("rows"), check_dtypes=False)
    assert summed["rows"].is_sorted(descending=True)


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("same\n", "same\n", ""),
        ("a=1\nb=2\nc=3", "a=1\nb=4\nc=5", "line 2: 'b=2' -> 'b=4'"),
        ("a\nb\n", "a\n", "line 2: 'b' -> no such line"),
        ("a\n", "a\nb\n", "line 2: no such line -> 'b'"),
        # A line break alone is a byte that differs.
        ("a", "a\n", "line 1: 'a' -> 'a'"),
        ("x" * 60, "y" * 61, f"line 1: '{'x' * 60}' -> '{'y' * 60}...'"),
    ],
)
def test_first_difference_names_the_line(then: str, now: str, said: str) -> None:
    assert first_difference(then, now) == said


def test_environment_changes_name_code_and_packages() -> None:
    said: dict[str, Any] = {
        "code": {"package": "0.1.0", "source_sha256": "aa", "git": None},
        "packages": {"lightgbm": "4.6.0", "numpy": "2.2.0", "pandas": "2.3.0"},
    }
    manifest = Manifest(files={}, **said)
    code = {"package": "0.1.0", "source_sha256": "bb", "git": "cc"}
    packages = {"lightgbm": "4.7.0", "numpy": "2.2.0", "polars": "1.43.2"}
    assert environment_changes(manifest, code, packages) == [
        EnvironmentChange("code", "git", None, "cc"),
        EnvironmentChange("code", "source_sha256", "aa", "bb"),
        EnvironmentChange("packages", "lightgbm", "4.6.0", "4.7.0"),
        EnvironmentChange("packages", "pandas", "2.3.0", None),
        EnvironmentChange("packages", "polars", None, "1.43.2"),
    ]
    assert environment_changes(manifest, manifest.code, manifest.packages) == []


def retrained(
    text: str = "tree\n",
    accuracy: float = 0.5,
    close: float = 1.0,
    tau: float | None = None,
    temperature: float = 1.0,
) -> Retrained:
    """What a training might give; the models are never asked to predict."""
    rows = pl.DataFrame({"symbol": ["AAA"], "session": [DAYS[0]], "close": [close]})
    return Retrained(
        split=Split(rows, rows.with_columns(set=1), rows.with_columns(set=2), purged=0),
        classifier=FittedModel(text, b"a pickle of this run", ("ret_1d",), ("BUY", "HOLD", "SELL")),
        regressor=FittedModel("tree\n", b"another", ("ret_1d",)),
        predictions=rows,
        threshold=Threshold(tau, "why", candidates=rows, temperature=temperature),
        metrics_json={"test_accuracy": accuracy},
        importance=pl.DataFrame({"feature": ["ret_1d"], "classifier_gain": [1.0]}),
    )


RULE = ("tau", "reason", "temperature")


def recorded(made: Retrained, rule: tuple[str, ...] = RULE) -> Bundle:
    sets = {name: {"content_sha256": fingerprint(rows)} for name, rows in made.split.sets().items()}
    threshold = {"threshold": {name: made.threshold.to_json()[name] for name in rule}} if rule else {}
    provenance = {"training_data": sets, **threshold}
    files = build_bundle(made.classifier, made.regressor, made.metrics_json, made.importance, provenance)
    return Bundle.verified(files, None)


def test_compare_parts_of_a_reproduced_version_are_identical() -> None:
    again = retrained()
    other_pickle = FittedModel(again.classifier.text, b"with other threads", ("ret_1d",), ("BUY", "HOLD", "SELL"))
    parts = compare_parts(recorded(retrained()), Retrained(**{**vars(again), "classifier": other_pickle}))
    assert [part.name for part in parts] == [
        "train_set", "validation_set", "test_set", "threshold",
        "classifier.txt", "regressor.txt", "metrics.json", "feature_importance.csv",
    ]  # fmt: skip
    assert all(part.is_identical and not part.first_difference for part in parts)


@pytest.mark.parametrize(
    ("other", "different"),
    [
        (retrained(text="tree 2\n"), {"classifier.txt": "line 1: 'tree' -> 'tree 2'"}),
        (retrained(accuracy=0.6), {"metrics.json": "line 2: '\"test_accuracy\": 0.5' -> '\"test_accuracy\": 0.6'"}),
        (retrained(tau=0.25), {"threshold": "line 3: '\"tau\": null,' -> '\"tau\": 0.25,'"}),
        (retrained(temperature=1.5), {"threshold": "line 4: '\"temperature\": 1.0' -> '\"temperature\": 1.5'"}),
        (retrained(close=2.0), {"train_set": "", "validation_set": "", "test_set": ""}),
    ],
)
def test_compare_parts_names_a_difference_with_digests_and_first_line(
    other: Retrained, different: dict[str, str]
) -> None:
    bundle = recorded(retrained())
    parts = {part.name: part for part in compare_parts(bundle, other)}
    assert {name: part.first_difference for name, part in parts.items() if not part.is_identical} == different
    assert parts["classifier.txt"].recorded == sha256(bundle.files["classifier.txt"])
    assert parts["classifier.txt"].found == sha256(other.classifier.text.encode())
    assert parts["train_set"].found == fingerprint(other.split.train)


@pytest.mark.parametrize(
    ("rule", "compared"), [((), None), (("tau", "reason"), True), (("tau", "temperature"), False)]
)
def test_compare_parts_compares_what_an_earlier_version_recorded_of_the_threshold(
    rule: tuple[str, ...],
    compared: bool | None,  # noqa: FBT001
) -> None:
    parts = {part.name: part for part in compare_parts(recorded(retrained(), rule), retrained(temperature=1.5))}
    assert (parts["threshold"].is_identical if "threshold" in parts else None) is compared
