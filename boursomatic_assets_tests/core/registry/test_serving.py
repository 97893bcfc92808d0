from __future__ import annotations

import dataclasses
import hashlib
import math
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, FEATURE_NAMES
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.core.registry.serving import (
    CANDIDATE_SCHEMA,
    IS_BENCHMARK,
    IS_NO_MEMBER,
    Serving,
    servable_rows,
    share_left_out,
)
from boursomatic_assets.errors import ConfigurationError, ModelMismatchError
from boursomatic_assets_tests.support.served import EXPERIMENT, SOUND, bundle, candidates, models, serving

if TYPE_CHECKING:
    from random import Random

# Independence Day, a Wednesday, is no session in New York and one in Paris.
BEFORE_THE_HOLIDAY, AFTER_IT, WEEK_LATER = date(2018, 7, 2), date(2018, 7, 5), date(2018, 7, 11)
EVERYONE = dataclasses.replace(serving(), universe=None)


def reason(changes: dict[str, Any], by: Serving = EVERYONE) -> str | None:
    """Why a sound candidate with these values is left out; None if it is served."""
    rows, excluded = servable_rows(candidates(changes), by)
    assert rows.height + excluded.height == 1
    return excluded["reason"].item() if excluded.height else None


def test_serving_is_what_the_manifest_says() -> None:
    stored = bundle()
    served = Serving.of(stored)
    assert served.version == "20260102_030405_abcdef"
    assert (served.classifier.text, served.regressor.text) == tuple(model.text for model in models())
    assert served.experiment == EXPERIMENT
    assert (served.tau, served.temperature) == (None, 1.25)
    assert served.universe == {"W000", "W001", "W002", "W003"}
    assert served.digests == {
        "manifest_sha256": hashlib.sha256(stored.files["manifest.json"]).hexdigest(),
        "classifier_sha256": hashlib.sha256(stored.files["classifier.txt"]).hexdigest(),
        "regressor_sha256": hashlib.sha256(stored.files["regressor.txt"]).hexdigest(),
    }


def test_serving_has_the_threshold() -> None:
    chosen = {"tau": 0.41, "reason": "the smallest", "temperature": 0.9}
    served = Serving.of(bundle({"threshold": chosen}))
    assert (served.tau, served.temperature) == (0.41, 0.9)


def test_serving_of_an_older_bundle_has_no_temperature_or_universe() -> None:
    older = bundle().manifest.model_dump(exclude={"threshold", "universe"})
    served = Serving.of(dataclasses.replace(bundle(), manifest=Manifest.model_validate(older)))
    assert (served.tau, served.temperature, served.universe) == (None, 1.0, None)
    assert Serving.of(bundle({"threshold": {"tau": 0.3, "reason": "the smallest"}})).temperature == 1.0


def test_serving_columns_include_what_calls_are_priced_by() -> None:
    assert serving().columns == (*DEFAULT_INPUTS, "atr_14")
    narrow = dataclasses.replace(serving().classifier, feature_names=("ret_1d", "atr_14"))
    assert dataclasses.replace(serving(), classifier=narrow).columns == ("ret_1d", "atr_14", "vol_20d")


def without_last(experiment: Experiment) -> dict[str, Any]:
    features = experiment.features[:-1]
    return {
        "feature_names": list(features),
        "experiment": experiment.model_copy(update={"features": features}).model_dump(mode="json"),
    }


TURNED = list(DEFAULT_INPUTS[::-1])
TURNED_EXPERIMENT = EXPERIMENT.model_copy(update={"features": tuple(TURNED)}).model_dump(mode="json")


@pytest.mark.parametrize(
    ("changes", "files", "says"),
    [
        ({"feature_names": TURNED}, {}, ["features", "its experiment", str(TURNED), str(list(DEFAULT_INPUTS))]),
        ({"feature_names": None}, {}, ["features", "its experiment", str(list(DEFAULT_INPUTS)), "None"]),
        (
            {"feature_names": TURNED, "experiment": TURNED_EXPERIMENT},
            {},
            ["features of classifier.txt", str(TURNED), str(list(DEFAULT_INPUTS))],
        ),
        (
            without_last(EXPERIMENT),
            {},
            ["features of classifier.txt", str(list(DEFAULT_INPUTS[:-1])), str(list(DEFAULT_INPUTS))],
        ),
        ({"class_names": ["BUY", "SELL", "HOLD"]}, {}, ["classes", "['BUY', 'HOLD', 'SELL']", "'SELL', 'HOLD'"]),
        ({}, {"classifier.txt": b"regressor"}, ["number of outputs of classifier.txt", "expected 3", "gives 1"]),
        ({}, {"regressor.txt": b"classifier"}, ["number of outputs of regressor.txt", "expected 1", "gives 3"]),
        ({}, {"regressor.txt": b"no trees"}, ["a regressor.txt", "expected a LightGBM model"]),
    ],
    ids=["order", "none named", "booster", "count", "classes", "one output", "three outputs", "rubbish"],
)
def test_serving_refuses_a_model_that_is_not_what_its_manifest_says(
    changes: dict[str, Any], files: dict[str, bytes], says: list[str]
) -> None:
    texts = dict(zip((b"classifier", b"regressor"), (model.text.encode() for model in models()), strict=True))
    other = bundle(changes, {name: texts.get(content, content) for name, content in files.items()})
    with pytest.raises(ModelMismatchError) as caught:
        Serving.of(other)
    for part in ("20260102_030405_abcdef cannot be served", *says, "boursomatic materialize"):
        assert part in str(caught.value)


def test_serving_refuses_an_experiment_that_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError, match="horizon"):
        Serving.of(bundle({"experiment": {"horizon": 0}}))


def test_servable_rows_of_sound_candidates_have_all_features() -> None:
    rows, excluded = servable_rows(candidates({}, {"exchange": None}, {"exchange": "XPAR"}), EVERYONE)
    assert excluded.schema == {"symbol": pl.String, "reason": pl.String}
    assert excluded.is_empty()
    assert rows.columns == ["symbol", "exchange", "session", "close", *FEATURE_NAMES]
    assert rows["symbol"].to_list() == ["S00", "S01", "S02"]
    assert rows.row(0, named=True) | SOUND == rows.row(0, named=True)


def test_servable_rows_of_no_candidates_are_none() -> None:
    rows, excluded = servable_rows(pl.DataFrame(schema=CANDIDATE_SCHEMA), EVERYONE)
    assert rows.height == excluded.height == 0


NOTHING = dict.fromkeys(FEATURE_NAMES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quarantined": True}, ["quarantined", "boursomatic adjustments list"]),
        ({"newest_bar": None, "session": None, "close": None, **NOTHING}, ["it has no bars"]),
        ({"member": False}, ["it is no member of the universe now"]),
        ({"session": None, "close": None, **NOTHING}, ["it has no features", "--select features"]),
        (
            {"newest_bar": date(2018, 1, 3), "session": date(2018, 1, 2)},
            ["features are of 2018-01-02", "newest bar of 2018-01-03", "--select features"],
        ),
        ({"ret_20d": None, "vol_20d": None}, ["too little history", "of ret_20d, vol_20d;", "21 sessions"]),
        ({"atr_14": None}, ["too little history", "of atr_14;"]),
        ({"ret_5d": math.nan}, ["ret_5d is no finite number: NaN"]),
        ({"volume_zscore": -math.inf}, ["volume_zscore is no finite number: -inf"]),
        ({"close": None}, ["its close of 2018-01-01 is no price: none"]),
        ({"close": 0.0}, ["its close of 2018-01-01 is no price: 0.0"]),
        ({"close": math.inf}, ["is no price: inf"]),
        ({"close": math.nan}, ["is no price: NaN"]),
        ({"atr_14": 0.0}, ["its price does not move (atr_14 is 0.0)"]),
        ({"atr_14": -1.0}, ["its price does not move (atr_14 is -1.0)"]),
        # a millionth of 100 is 0.0001
        ({"atr_14": 0.00009}, ["its price does not move"]),
    ],
    ids=str,
)
def test_servable_rows_list_the_reason_of_what_is_left_out(changes: dict[str, Any], says: list[str]) -> None:
    found = reason(changes)
    assert found is not None
    for part in says:
        assert part in found


@pytest.mark.parametrize("changes", [{"rsi_14": None}, {"volume_zscore": None}, {"atr_14": 0.00011}], ids=str)
def test_servable_rows_may_lack_features_that_may_be_null(changes: dict[str, Any]) -> None:
    assert reason(changes) is None


def test_servable_rows_leave_out_unknown_instruments() -> None:
    found = reason({"symbol": "NEW"}, serving())
    assert found == "the model does not know it: no row of it was in the panel of 20260102_030405_abcdef"
    assert reason({"symbol": "W002"}, serving()) is None


def test_servable_rows_leave_out_the_benchmark() -> None:
    # it is in no panel that a model learned from either
    with_benchmark = dataclasses.replace(serving(), experiment=Experiment(benchmark="SPY"))
    assert reason({"symbol": "SPY"}, with_benchmark) == "it is the benchmark that others are compared with"


def test_servable_rows_tell_the_first_of_several_reasons() -> None:
    all_wrong = {"quarantined": True, "newest_bar": None, "member": False, "close": None, **NOTHING}
    assert str(reason(all_wrong)).startswith("quarantined")
    assert reason({**all_wrong, "quarantined": False}) == "it has no bars"
    assert reason({"member": False, "session": None}) == "it is no member of the universe now"
    assert str(reason({"vol_20d": None, "ret_1d": math.nan})).startswith("too little history")
    # in the order of the features
    assert str(reason({"volume_zscore": math.inf, "ret_1d": math.nan})).startswith("ret_1d")


def stale(*changes: dict[str, Any]) -> dict[str, str]:
    table = candidates(*({"newest_bar": change["session"], **change} for change in changes))
    return dict(servable_rows(table, EVERYONE)[1].iter_rows())


def test_servable_rows_allow_five_sessions_behind_the_newest_of_the_exchange() -> None:
    # after July 3rd come the 5th, 6th, 9th, 10th and 11th, after July 2nd the 3rd as well
    found = stale({"session": WEEK_LATER}, {"session": date(2018, 7, 3)}, {"session": BEFORE_THE_HOLIDAY})
    assert found == {"S02": "its newest bar, 2018-07-02, is 6 sessions behind the newest of XNYS, 2018-07-11"}


def test_servable_rows_count_by_the_calendar_of_each_exchange() -> None:
    # in Paris July 4th is a session, so that July 3rd is six behind the 11th
    paris = {"exchange": "Paris"}
    found = stale(
        {"session": WEEK_LATER, **paris},
        {"session": date(2018, 7, 3), **paris},
        {"session": date(2018, 7, 4), **paris},
        {"session": BEFORE_THE_HOLIDAY},
        {"session": AFTER_IT, "exchange": "NYSE"},
    )
    assert found == {"S01": "its newest bar, 2018-07-03, is 6 sessions behind the newest of XPAR, 2018-07-11"}


def test_servable_rows_without_a_calendar_allow_seven_days() -> None:
    elsewhere = {"exchange": "Elsewhere"}
    found = stale(
        {"session": WEEK_LATER},
        {"session": date(2018, 7, 4), **elsewhere},
        {"session": date(2018, 7, 3), "exchange": None},
    )
    assert found == {"S02": "its newest bar, 2018-07-03, is 8 days behind the newest of all, 2018-07-11"}


def test_servable_rows_before_the_calendars_begin_count_days() -> None:
    found = stale({"session": date(1950, 1, 10)}, {"session": date(1950, 1, 2)})
    assert found == {"S01": "its newest bar, 1950-01-02, is 8 days behind the newest of all, 1950-01-10"}


DEFECTS = (
    {}, {"quarantined": True}, {"newest_bar": None}, {"session": None}, {"vol_20d": None}, {"ret_1d": math.nan},
    {"atr_14": 0.0}, {"close": None}, {"member": False}, {"session": date(2018, 7, 2)}, {"exchange": None},
)  # fmt: skip


@given(st.lists(st.sampled_from(DEFECTS), max_size=8), st.randoms())
def test_servable_rows_hold_each_candidate_once_in_any_order(defects: list[dict[str, Any]], chance: Random) -> None:
    table = candidates(*({"session": WEEK_LATER, **defect} for defect in defects))
    order = list(range(table.height))
    chance.shuffle(order)
    rows, excluded = servable_rows(table, EVERYONE)
    shuffled_rows, shuffled_excluded = servable_rows(table[order], EVERYONE)
    assert_frame_equal(rows, shuffled_rows, check_exact=True)
    assert_frame_equal(excluded, shuffled_excluded)
    assert sorted([*rows["symbol"], *excluded["symbol"]]) == table["symbol"].to_list()
    assert rows["symbol"].is_sorted()
    assert excluded["symbol"].is_sorted()
    assert excluded["reason"].null_count() == 0


def test_share_left_out_ignores_benchmark_and_non_members() -> None:
    on_purpose = {"SPY": IS_BENCHMARK, "OLD": IS_NO_MEMBER}
    assert share_left_out(4, on_purpose) == 0.0
    # One of the five that ought to be there.
    assert share_left_out(4, {**on_purpose, "GONE": "it has no bars"}) == 0.2
    assert share_left_out(0, {}) == 0.0
