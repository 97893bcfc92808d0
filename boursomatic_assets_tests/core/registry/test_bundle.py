from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import (
    BUNDLE_FILES,
    MANIFEST,
    REFERENCE,
    Bundle,
    build_bundle,
    sha256,
    strict_json,
    version_name,
    version_time,
)
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.errors import TamperedArtifactError

FEATURES = ("ret_1d", "rsi_14")
CLASSIFIER = FittedModel("tree of calls\n", b"pickle 1", FEATURES, ("BUY", "HOLD", "SELL"))
REGRESSOR = FittedModel("tree of returns\n", b"pickle 2", FEATURES, ())
PROVENANCE = {"version": "v1", "experiment": Experiment(horizon=7).model_dump(mode="json")}


def bundle() -> dict[str, bytes]:
    importance = pl.DataFrame({"feature": list(FEATURES), "classifier_gain": [0.75, 0.25]})
    return build_bundle(CLASSIFIER, REGRESSOR, {"test_accuracy": 0.5}, importance, PROVENANCE)


def digest_of(files: dict[str, bytes]) -> str:
    return hashlib.sha256(files[MANIFEST]).hexdigest()


def test_version_name_has_the_second_and_six_digits_of_a_token() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (UTC, as the table keeps it)
    assert version_name(moment, "0123456789ab") == "20260304_050607_012345"


def test_version_time_reads_the_name_of_a_version_and_of_nothing_else() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (UTC, as the table keeps it)
    assert version_time(version_name(moment, "0123456789ab")) == moment
    others = [
        "v1",
        "20260304_050607_xyz",
        "20260304_050607_0123456",
        "20261304_050607_012345",
        "x20260304_050607_012345",
    ]
    assert [version_time(name) for name in others] == [None] * 5


def test_sha256_of_the_published_example() -> None:
    # the example of FIPS 180-4
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_strict_json_of_equal_values_is_equal() -> None:
    assert strict_json({"b": 1, "a": [0.5, None]}) == strict_json({"a": [0.5, None], "b": 1})
    assert json.loads(strict_json({"a": 0.1 + 0.2})) == {"a": 0.1 + 0.2}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_strict_json_refuses_a_number_that_is_not_finite(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        strict_json({"sharpe_ratio": number})


def test_build_bundle_lists_the_digest_of_each_file() -> None:
    files = bundle()
    assert list(files) == [*BUNDLE_FILES, MANIFEST]
    assert files["classifier.pkl"] == b"pickle 1"
    assert files["regressor.txt"] == b"tree of returns\n"
    assert files["feature_importance.csv"].decode().splitlines() == [
        "feature,classifier_gain",
        "ret_1d,0.75",
        "rsi_14,0.25",
    ]
    manifest = json.loads(files[MANIFEST])
    assert manifest["version"] == "v1"
    assert (manifest["feature_names"], manifest["class_names"]) == (list(FEATURES), ["BUY", "HOLD", "SELL"])
    assert manifest["files"] == {
        name: {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
        for name in BUNDLE_FILES
    }


def test_build_bundle_lists_the_digest_of_a_reference() -> None:
    importance = pl.DataFrame({"feature": list(FEATURES)})
    files = build_bundle(CLASSIFIER, REGRESSOR, {}, importance, PROVENANCE, {"window": 60})
    assert json.loads(files[REFERENCE]) == {"window": 60}
    listed = json.loads(files[MANIFEST])["files"]
    assert listed[REFERENCE]["sha256"] == hashlib.sha256(files[REFERENCE]).hexdigest()
    assert set(listed) == {*BUNDLE_FILES, REFERENCE}


@pytest.mark.parametrize("is_recorded", [True, False], ids=["digest recorded", "another program's row"])
def test_verified_opens_an_untouched_bundle(*, is_recorded: bool) -> None:
    files = bundle()
    opened = Bundle.verified(files, digest_of(files) if is_recorded else None)
    assert opened.files == files
    assert opened.manifest == Manifest.model_validate_json(files[MANIFEST])
    # What it does not know it keeps.
    assert opened.manifest.model_dump(mode="json", exclude_unset=True) == json.loads(files[MANIFEST])
    assert opened.experiment == Experiment(horizon=7)
    assert opened.classifier() == CLASSIFIER
    assert opened.regressor() == REGRESSOR


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_verified_names_a_changed_or_missing_file_with_both_digests(name: str) -> None:
    files = bundle()
    expected = hashlib.sha256(files[name]).hexdigest()
    changed = {**files, name: files[name] + b" "}
    with pytest.raises(TamperedArtifactError, match=name) as caught:
        Bundle.verified(changed, digest_of(files))
    assert f"expected SHA-256 {expected}, found {hashlib.sha256(changed[name]).hexdigest()}" in str(caught.value)

    missing = {other: content for other, content in files.items() if other != name}
    with pytest.raises(TamperedArtifactError, match="no such file") as caught:
        Bundle.verified(missing, digest_of(files))
    assert f"{name} is not the file that was recorded" in str(caught.value)


def test_verified_finds_a_forged_manifest_by_its_own_digest() -> None:
    recorded = digest_of(bundle())
    other = FittedModel("another tree\n", b"pickle 3", FEATURES, ("BUY", "HOLD", "SELL"))
    forged = build_bundle(other, REGRESSOR, {}, pl.DataFrame({"feature": []}), PROVENANCE)
    with pytest.raises(TamperedArtifactError, match=f"{MANIFEST} is not the file") as caught:
        Bundle.verified(forged, recorded)
    assert recorded in str(caught.value)
    # without a recorded digest nothing tells, which is why one is recorded
    assert Bundle.verified(forged, None).classifier() == other


@pytest.mark.parametrize("listed", [None, "none", BUNDLE_FILES[1:]])
def test_verified_refuses_a_manifest_without_every_digest(listed: object) -> None:
    files = bundle()
    manifest = json.loads(files[MANIFEST])
    kept = {name: manifest["files"][name] for name in listed} if isinstance(listed, tuple) else listed
    with pytest.raises(TamperedArtifactError, match=r"a manifest of classifier\.pkl"):
        Bundle.verified({**files, MANIFEST: strict_json({**manifest, "files": kept})}, None)


@pytest.mark.parametrize(
    "said",
    [{"learned_until": 3}, {"training_data": None}, {"training_data": {"train_set": {"last_session": "soon"}}}],
)
def test_verified_refuses_a_manifest_that_does_not_say_when_its_models_learned(said: dict[str, Any]) -> None:
    files = bundle()
    mangled = strict_json({**json.loads(files[MANIFEST]), **said})
    with pytest.raises(TamperedArtifactError, match=r"a manifest of classifier\.pkl"):
        Bundle.verified({**files, MANIFEST: mangled}, sha256(mangled))


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_verified_refuses_a_manifest_that_is_none(content: bytes) -> None:
    with pytest.raises(TamperedArtifactError, match=r"a manifest of classifier\.pkl"):
        Bundle.verified({**bundle(), MANIFEST: content}, None)
