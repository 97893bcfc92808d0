from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import FEATURE_NAMES, compute_features
from boursomatic_assets.core.registry.bundle import BUNDLE_FILES, MANIFEST, sha256
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.core.trace.bars import adjustments_step, bars_step, features_at, features_step
from boursomatic_assets.core.trace.recomputation import (
    FoundBundle,
    bundle_step,
    call_step,
    code_step,
    prediction_step,
    run_step,
    snapshot_step,
    training_data_step,
)
from boursomatic_assets.core.trace.tree import CHANGED, DIFFERS, GONE, MATCHES, NOT_RECORDED, TraceStep
from boursomatic_assets_tests.support.served import bundle, serving
from boursomatic_assets_tests.support.strategies import random_walk_bars, weekdays
from boursomatic_assets_tests.support.traced import CONTENT, SYMBOL, evidence_of, rewritten, stored

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANGES = {"session": pl.Date, "column": pl.String, "then": pl.Float64, "now": pl.Float64}
TUESDAY, WEDNESDAY = date(2018, 1, 2), date(2018, 1, 3)


def differing(step: TraceStep) -> list[str]:
    return [part.name for part in step.children if not part.is_sound]


def unsound(found: FoundBundle) -> list[tuple[str, str]]:
    return [(part.name, part.status) for part in found.step.children if not part.is_sound]


def of_files(files: Mapping[str, bytes] | None) -> FoundBundle:
    """The bundle of the stored recommendation, with other files."""
    return bundle_step(stored(), evidence_of(stored()), files)


def features_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"close": row["snapshot"]["close"], **row["snapshot"]["features"]}


def test_trace_of_an_untouched_recommendation_matches() -> None:
    row = stored()
    evidence = evidence_of(row)
    steps = [snapshot_step(evidence), call_step(row, evidence), prediction_step(SYMBOL, evidence, serving())]
    assert [step.status for step in steps] == [MATCHES] * 3
    assert [step.children for step in steps] == [()] * 3


def test_snapshot_step_finds_an_edited_snapshot() -> None:
    row = stored()
    step = snapshot_step(evidence_of(row, close=row["snapshot"]["close"] + 1))
    assert (step.status, step.recorded) == (DIFFERS, row["snapshot"]["digest"])


@pytest.mark.parametrize(
    ("column", "value"),
    [("confidence", 0.99), ("label", "nothing of the kind"), ("stop_loss", 1.0), ("horizon_days", 6)],
)
def test_call_step_names_an_edited_column(column: str, value: object) -> None:
    step = call_step({**stored(), column: value}, evidence_of(stored()))
    assert (step.status, differing(step)) == (DIFFERS, [column])


def test_call_step_accepts_the_justification_in_either_language() -> None:
    row = stored()
    for language in ("en", "fr"):
        said = row["snapshot"]["justification"][language]
        assert call_step({**row, "justification": said}, evidence_of(row)).status == MATCHES
    for changes in ({}, {"justification": {}}):
        step = call_step({**row, "justification": "Buy."}, evidence_of(row, **changes))
        assert differing(step) == ["justification"]


def test_prediction_step_finds_a_forged_probability() -> None:
    row = stored()
    shares = {"BUY": 0.9, "HOLD": 0.05, "SELL": 0.05}
    evidence = evidence_of({"snapshot": rewritten(row["snapshot"], probabilities=shares)})
    # the digest is that of what is written there, and yet it does not follow from the model
    assert snapshot_step(evidence).status == MATCHES
    step = prediction_step(SYMBOL, evidence, serving())
    assert differing(step) == [f"probabilities: {name}" for name in shares]
    assert step.recorded.startswith("BUY 0.9,")


def test_prediction_step_names_what_other_features_change() -> None:
    row = stored()
    features = {**row["snapshot"]["features"], "rsi_14": None}
    names = {
        name.split(":")[0]
        for name in differing(prediction_step(SYMBOL, evidence_of(row, features=features), serving()))
    }
    assert {"probabilities", "contributions"} <= names
    assert "features" not in names


def test_prediction_step_names_a_missing_feature() -> None:
    row = stored()
    features = {name: value for name, value in row["snapshot"]["features"].items() if name != "rsi_14"}
    step = prediction_step(SYMBOL, evidence_of(row, features=features), serving())
    assert (step.status, step.detail) == (DIFFERS, "the snapshot has no value of rsi_14")


def test_bundle_step_of_a_whole_bundle_matches() -> None:
    found = of_files(bundle().files)
    assert found.step.status == MATCHES
    assert [part.name for part in found.step.children] == [MANIFEST, *BUNDLE_FILES]
    assert found.bundle == bundle()
    assert found.manifest == bundle().manifest


@pytest.mark.parametrize(
    ("name", "usable"),
    [("classifier.txt", False), ("regressor.txt", False), ("classifier.pkl", True), ("metrics.json", True)],
)
def test_bundle_step_names_an_altered_file_with_both_digests(name: str, usable: bool) -> None:  # noqa: FBT001
    found = of_files({**bundle().files, name: b"altered"})
    (part,) = [part for part in found.step.children if not part.is_sound]
    digests = (bundle().manifest.files[name].sha256, sha256(b"altered"))
    assert (part.name, part.status, part.recorded, part.found) == (name, DIFFERS, *digests)
    # what does not predict keeps nobody from predicting
    assert (found.bundle is not None) is usable
    assert found.manifest == bundle().manifest


def test_bundle_step_names_a_missing_file() -> None:
    files = {name: content for name, content in bundle().files.items() if name != "regressor.pkl"}
    assert unsound(of_files(files)) == [("regressor.pkl", GONE)]


def test_bundle_step_of_a_missing_bundle() -> None:
    found = of_files(None)
    assert (found.step.status, found.manifest, found.bundle) == (GONE, None, None)


def test_bundle_step_uses_nothing_without_the_recorded_manifest() -> None:
    for files, status in (({**bundle().files, MANIFEST: b"{}"}, DIFFERS), ({}, GONE)):
        found = of_files(files)
        assert unsound(found) == [(part.name, part.status) for part in found.step.children] == [(MANIFEST, status)]
        assert found.manifest is found.bundle is None


def test_bundle_step_finds_a_manifest_replaced_with_its_row() -> None:
    other = bundle({"version": "another"})
    files = {**other.files, MANIFEST: other.manifest.model_dump_json().encode()}
    row = {**stored(), "manifest_sha256": sha256(files[MANIFEST])}
    found = bundle_step(row, evidence_of(row), files)
    told = [(part.detail, part.status) for part in found.step.children]
    assert told == [("as the database recorded it", MATCHES), ("as the snapshot recorded it", DIFFERS)]


def test_bundle_step_uses_no_manifest_without_a_recorded_digest() -> None:
    row = {**stored(), "manifest_sha256": None}
    model = {**row["snapshot"]["model"], "manifest_sha256": None}
    found = bundle_step(row, evidence_of(row, model=model), bundle().files)
    assert [part.status for part in found.step.children] == [NOT_RECORDED]
    assert found.bundle is None


@pytest.mark.parametrize(
    ("manifest", "found", "status"),
    [
        ({"snapshot": {"sha256": "a"}}, "a", MATCHES),
        ({"snapshot": {"sha256": "a"}}, "b", DIFFERS),
        ({"snapshot": {"sha256": "a"}}, None, GONE),
        ({"snapshot": None}, None, NOT_RECORDED),
        ({}, None, NOT_RECORDED),
    ],
)
def test_training_data_step(manifest: dict[str, Any], found: str | None, status: str) -> None:
    assert training_data_step(Manifest(files={}, **manifest), found).status == status


@pytest.mark.parametrize(
    ("run_id", "found", "status"),
    [
        ("r1", {"status": "SUCCESS", "version": "v1"}, MATCHES),
        # a run may fail later on
        ("r1", {"status": "FAILURE", "version": "v1"}, MATCHES),
        ("r1", {"status": "SUCCESS", "version": "v2"}, DIFFERS),
        ("r1", {"status": "SUCCESS"}, DIFFERS),
        ("r1", None, GONE),
        (None, None, NOT_RECORDED),
    ],
)
def test_run_step(run_id: str | None, found: dict[str, Any] | None, status: str) -> None:
    assert run_step("training run", run_id, found, {"version": "v1"}).status == status


def test_code_step_names_changes_and_stays_sound() -> None:
    then = {"source_sha256": "a", "git": None, "polars": "1.0"}
    assert code_step(then, then).status == MATCHES
    step = code_step(then, {**then, "polars": "1.1", "numpy": "2"})
    assert (step.status, step.recorded, step.found) == (CHANGED, "polars 1.0, numpy nothing", "polars 1.1, numpy 2")
    assert step.is_sound
    assert code_step({}, then).status == NOT_RECORDED


def test_features_at_a_session_are_those_of_the_whole_panel() -> None:
    bars, sessions = random_walk_bars(symbols=1, sessions=60, seed=3), weekdays(60)
    expected = compute_features(bars).filter(session=sessions[40])
    found = features_at(bars, None, [], sessions[40])
    assert found == {
        "close": bars.filter(session=sessions[40])["close"].item(),
        **expected.select(FEATURE_NAMES).row(0, named=True),
        "natr_14": expected["atr_14"].item() / bars.filter(session=sessions[40])["close"].item(),
    }


def test_features_at_a_session_are_those_of_adjusted_bars() -> None:
    bars, sessions = random_walk_bars(symbols=1, sessions=60, seed=3), weekdays(60)
    # Halved before the last session: twice the return of it plus one, half the close two sessions ago.
    whole = features_at(bars, None, [], sessions[-1]) or {}
    halved = features_at(bars, None, [(sessions[-1], 0.5)], sessions[-1]) or {}
    assert halved["close"] == whole["close"]
    assert halved["ret_1d"] == pytest.approx(2 * (whole["ret_1d"] or 0) + 1)


def test_features_at_a_dividend_change_returns_and_leave_volumes() -> None:
    bars = random_walk_bars(symbols=1, sessions=60, seed=3)
    at, last = bars["session"][50], bars["session"][-1]
    plain, paid, split = (features_at(bars, "XNYS", noted, last) for noted in ([], [(at, 0.9, 1.0)], [(at, 0.9)]))
    assert plain is not None
    assert paid is not None
    assert split is not None
    assert paid["vol_20d"] == split["vol_20d"] != plain["vol_20d"]
    assert paid["volume_zscore"] == plain["volume_zscore"] != split["volume_zscore"]


def test_features_at_a_session_without_a_bar_are_none() -> None:
    bars = random_walk_bars(symbols=1, sessions=30, seed=3)
    assert features_at(bars, "XNYS", [], date(2030, 1, 1)) is None
    assert features_at(bars.clear(), None, [(TUESDAY, 0.5)], TUESDAY) is None


def test_features_step_matches_the_recorded_ones() -> None:
    row = stored()
    found = features_of(row) | {"another": 1.0}
    for today in (None, found):
        assert features_step("stored row", evidence_of(row), found, "", today=today).status == MATCHES
    # the table has neither the close nor what is derived from it
    del found["close"], found["natr_14"]
    assert features_step("stored row", evidence_of(row), found, "").detail.startswith("8 values")


def test_features_step_names_an_altered_feature() -> None:
    row = stored()
    altered = {**features_of(row), "rsi_14": 12.5}
    # bars that have changed too do not explain it
    for today in (None, features_of(row), {**features_of(row), "rsi_14": None}, {}):
        step = features_step("stored row", evidence_of(row), altered, "", today=today)
        assert (step.status, differing(step)) == (DIFFERS, ["rsi_14"])
        assert step.children[0].found == "12.5"


def test_features_step_takes_what_follows_from_changed_bars_for_a_consequence() -> None:
    row = stored()
    today = {**features_of(row), "rsi_14": 12.5, "volume_zscore": None}
    # The table leaves a value that agrees to 1e-9 of it as it was.
    found = {**today, "rsi_14": 12.5 * (1 + 5e-10)}
    step = features_step("stored row", evidence_of(row), found, "The table", today=today)
    assert (step.status, step.children) == (CHANGED, ())
    assert step.found == f"rsi_14 {found['rsi_14']!r}, volume_zscore nothing"
    beyond = {**today, "rsi_14": 12.5 * (1 + 5e-9)}
    assert features_step("stored row", evidence_of(row), beyond, "", today=today).status == DIFFERS


def test_features_step_takes_a_row_gone_with_its_bar_for_a_consequence() -> None:
    row = stored()
    for today, status in ((None, GONE), (features_of(row), GONE), ({}, CHANGED)):
        assert features_step("stored row", evidence_of(row), None, "", today=today).status == status


def bars(*changes: tuple[date, str, float | None, float | None], is_restored: bool = True) -> TraceStep:
    frame = pl.DataFrame(list(changes), schema=CHANGES, orient="row")
    return bars_step(CONTENT, "1", frame, is_same=False, is_restored=is_restored)


def test_bars_step_names_each_changed_bar() -> None:
    step = bars(
        (TUESDAY, "high", 11.0, 12.0),
        (TUESDAY, "close", 10.5, 11.5),
        (WEDNESDAY, "close", 10.0, None),
        (date(2018, 1, 4), "close", None, 9.0),
    )
    assert step.detail == "3 bars changed since"
    assert [(part.name, part.status, part.recorded, part.found) for part in step.children] == [
        ("2018-01-02", DIFFERS, "high 11.0, close 10.5", "high 12.0, close 11.5"),
        ("2018-01-03", GONE, "close 10.0", "no such bar"),
        ("2018-01-04", DIFFERS, "no such bar", "close 9.0"),
    ]


def test_bars_step_says_where_no_change_is_on_record() -> None:
    assert bars(is_restored=False).detail.startswith("no change is on record")
    found = bars((TUESDAY, "close", 1.0, 2.0), is_restored=False)
    assert found.detail.startswith("1 bar changed since; no change is on record")
    assert found.status == bars(is_restored=False).status == DIFFERS


def test_bars_step_matches_by_content() -> None:
    nothing = pl.DataFrame(schema=CHANGES)
    assert bars_step(CONTENT, CONTENT, nothing, is_same=True, is_restored=False).status == MATCHES
    assert bars_step(None, CONTENT, nothing, is_same=False, is_restored=False).status == NOT_RECORDED


def test_adjustments_step_names_each_change() -> None:
    then = [(TUESDAY, 0.5), (WEDNESDAY, 0.25), (date(2018, 1, 5), 1.0)]
    step = adjustments_step(then, [(WEDNESDAY, 0.2), (date(2018, 1, 4), 2.0), (date(2018, 1, 5), 1.0)])
    assert [(part.name, part.recorded, part.found) for part in step.children] == [
        ("2018-01-02", "0.5", "nothing"),
        ("2018-01-03", "0.25", "0.2"),
        ("2018-01-04", "nothing", "2.0"),
    ]
    assert step.status == DIFFERS
    assert adjustments_step(then, then).status == MATCHES
    assert adjustments_step([], []).recorded == "none"
    assert adjustments_step(None, then).status == NOT_RECORDED
