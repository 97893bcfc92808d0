from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from upath import UPath

import boursomatic_assets
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import MANIFEST, build_bundle, sha256
from boursomatic_assets.errors import ArtifactWriteError, MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts import bundles
from boursomatic_assets.storage.artifacts.bundles import (
    code_revision,
    open_bundle,
    pack_model,
    package_versions,
    save_bundle,
    unpack_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MOMENT = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 (UTC, as the table keeps it)
FEATURES = ("ret_1d", "rsi_14")
STAMP = {"asset": "classifier", "experiment": {"horizon": 20}}
DIGEST = re.compile("[0-9a-f]{64}")


class Marker:
    """A pickle of it writes a file when it is opened: the mark that someone unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "opened")


@pytest.fixture(scope="module")
def models() -> tuple[FittedModel, FittedModel]:
    """A small classifier and regressor, trained in earnest on a line of numbers."""
    rows = 90
    numbers = [((7 * i) % rows) / rows for i in range(rows)]
    train_set = pl.DataFrame(
        {
            "ret_1d": numbers,
            "rsi_14": [100 * number for number in numbers],
            "label": pl.Series([("SELL", "HOLD", "BUY")[int(3 * number)] for number in numbers], dtype=pl.String),
            "forward_return": numbers,
        }
    )
    experiment = Experiment.parse(
        {"features": FEATURES, "classifier": {"n_estimators": 2}, "regressor": {"n_estimators": 2}}
    )
    return fit_classifier(train_set, experiment, 1), fit_regressor(train_set, experiment, 1)


@pytest.fixture
def build(models: tuple[FittedModel, FittedModel]) -> Callable[[str], dict[str, bytes]]:
    """Lays out the files of a bundle for a version's name."""
    importance = pl.DataFrame({"feature": list(FEATURES), "classifier_gain": [0.75, 0.25]})
    return lambda version: build_bundle(
        *models, {"test_accuracy": 0.5}, importance, {"version": version, "experiment": Experiment().model_dump()}
    )


def test_save_bundle_and_open_bundle_round_trip(
    build: Callable[[str], dict[str, bytes]], models: tuple[FittedModel, FittedModel], tmp_path: Path
) -> None:
    version, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    assert re.fullmatch("20260304_050607_[0-9a-f]{6}", version)
    assert Path(folder.path) == tmp_path / "models" / version
    assert sorted(path.name for path in folder.iterdir()) == [
        "classifier.pkl",
        "classifier.txt",
        "feature_importance.csv",
        "manifest.json",
        "metrics.json",
        "regressor.pkl",
        "regressor.txt",
    ]
    assert digest == sha256((folder / "manifest.json").read_bytes())

    bundle = open_bundle(str(folder), digest)
    assert bundle.manifest.version == version
    assert bundle.experiment == Experiment()
    assert bundle.classifier() == models[0]
    assert bundle.regressor() == models[1]
    rows = pl.DataFrame({"ret_1d": [0.1, 0.9], "rsi_14": [10.0, 90.0]})
    assert (bundle.classifier().predict(rows) == models[0].predict(rows)).all()


def test_save_bundle_gives_two_versions_in_one_second(
    build: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    saved = [save_bundle(UPath(str(tmp_path)), MOMENT, build) for _ in range(2)]
    assert len({version for version, _, _ in saved}) == 2
    for version, folder, digest in saved:
        assert open_bundle(str(folder), digest).manifest.version == version


def test_bundle_round_trips_at_a_url(build: Callable[[str], dict[str, bytes]]) -> None:
    version, folder, digest = save_bundle(UPath("memory://test_model_store"), MOMENT, build)
    assert str(folder) == f"memory://test_model_store/models/{version}"
    assert open_bundle(str(folder), digest).files == build(version)


def test_save_bundle_that_fails_leaves_nothing(build: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(ArtifactWriteError, match="--artifacts-dir") as caught:
        save_bundle(UPath(str(tmp_path)), MOMENT, build)
    assert str(tmp_path / "models") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


# The parent leads to a missing disk; an endless loop over names would be counted.
def test_save_bundle_stops_at_a_missing_disk(build: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to("/no-such-disk/models")
    attempts = []

    def counted(version: str) -> dict[str, bytes]:
        attempts.append(version)
        assert len(attempts) < 10
        return build(version)

    with pytest.raises(ArtifactWriteError, match="--artifacts-dir"):
        save_bundle(UPath(str(tmp_path)), MOMENT, counted)


def test_open_bundle_reports_a_missing_or_unfinished_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="models list"):
        open_bundle(str(tmp_path / "nothing"), None)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "classifier.txt").write_text("tree")
    with pytest.raises(MissingArtifactError, match="never finished"):
        open_bundle(str(tmp_path / "half"), None)


@pytest.mark.parametrize(
    "name",
    [
        "classifier.pkl",
        "classifier.txt",
        "feature_importance.csv",
        "metrics.json",
        "regressor.pkl",
        "regressor.txt",
    ],
)
@pytest.mark.parametrize("recorded", [True, False], ids=["digest in the database", "no digest in the database"])
def test_open_bundle_refuses_a_changed_file_without_unpickling(
    build: Callable[[str], dict[str, bytes]], tmp_path: Path, name: str, *, recorded: bool
) -> None:
    _, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    mark = tmp_path / "mark"
    changed = pickle.dumps(Marker(mark))
    expected = sha256((folder / name).read_bytes())
    (folder / name).write_bytes(changed)
    with pytest.raises(TamperedArtifactError) as caught:
        open_bundle(str(folder), digest if recorded else None)
    assert str(caught.value).startswith(f"{name} ")
    assert DIGEST.findall(str(caught.value)) == [expected, sha256(changed)]
    assert not mark.exists()
    # Unpickling it would have written the mark.
    pickle.loads(changed)  # noqa: S301 (our own)
    assert mark.exists()


def test_one_bit_is_enough(build: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    _, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    content = bytearray((folder / "classifier.pkl").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "classifier.pkl").write_bytes(bytes(content))
    with pytest.raises(TamperedArtifactError, match=r"classifier\.pkl"):
        open_bundle(str(folder), digest)


def test_open_bundle_refuses_the_bundle_of_another_version(
    build: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    version, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    assert open_bundle(str(folder), digest, version).manifest.version == version
    with pytest.raises(TamperedArtifactError, match=f"that of version {version}; expected version other"):
        open_bundle(str(folder), digest, "other")


def test_open_bundle_leaves_out_what_the_manifest_does_not_list(
    build: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    _, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    (folder / "reference.json").write_bytes(b"{}")
    assert "reference.json" not in open_bundle(str(folder), digest).files


def test_open_bundle_names_a_missing_file(build: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    _, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    (folder / "regressor.txt").unlink()
    with pytest.raises(TamperedArtifactError, match=r"regressor\.txt .* no such file"):
        open_bundle(str(folder), digest)


def test_open_bundle_refuses_a_rewritten_manifest(build: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    _, folder, digest = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    mark = tmp_path / "mark"
    changed = pickle.dumps(Marker(mark))
    (folder / "classifier.pkl").write_bytes(changed)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"]["classifier.pkl"] = {"sha256": sha256(changed), "bytes": len(changed)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(TamperedArtifactError, match=r"^manifest\.json ") as caught:
        open_bundle(str(folder), digest)
    assert DIGEST.findall(str(caught.value)) == [digest, sha256((folder / MANIFEST).read_bytes())]
    assert not mark.exists()


@pytest.mark.parametrize(
    "damage", [b"", b'{"files": {"classifier.pkl"', b"{}", b"[]", b'{"files": {}}', b"\xff\xfe"]
)
def test_open_bundle_refuses_a_damaged_manifest(
    build: Callable[[str], dict[str, bytes]], tmp_path: Path, damage: bytes
) -> None:
    _, folder, _ = save_bundle(UPath(str(tmp_path)), MOMENT, build)
    (folder / MANIFEST).write_bytes(damage)
    with pytest.raises(TamperedArtifactError, match=r"manifest\.json"):
        open_bundle(str(folder), None).classifier()


@pytest.fixture(scope="module")
def packed(models: tuple[FittedModel, FittedModel]) -> bytes:
    return pack_model(models[0], STAMP)


def test_pack_model_and_unpack_model_round_trip(packed: bytes, models: tuple[FittedModel, FittedModel]) -> None:
    assert unpack_model(packed, "classifier") == (models[0], STAMP)
    assert unpack_model(pack_model(models[1], {}), "regressor") == (models[1], {})


def test_pack_model_is_deterministic(packed: bytes, models: tuple[FittedModel, FittedModel]) -> None:
    assert pack_model(models[0], STAMP) == packed


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 0.99999])
def test_unpack_model_refuses_a_truncated_archive(packed: bytes, share: float) -> None:
    with pytest.raises(TamperedArtifactError, match="boursomatic materialize --select classifier") as caught:
        unpack_model(packed[: int(len(packed) * share)], "classifier")
    assert "classifier" in str(caught.value)


SMALL = FittedModel("tree\n", b"pickle", ("ret_1d",), ("BUY", "HOLD", "SELL"))
SMALL_PACKED = pack_model(SMALL, STAMP)


@hypothesis_settings(deadline=None, max_examples=1000)
@given(position=st.integers(0, len(SMALL_PACKED) - 1), mask=st.integers(1, 255))
def test_unpack_model_refuses_any_changed_byte(position: int, mask: int) -> None:
    changed = bytearray(SMALL_PACKED)
    changed[position] ^= mask
    try:
        found = unpack_model(bytes(changed), "classifier")
    except TamperedArtifactError:
        return
    # A byte of the archive's own, such as a date, which changes no content.
    assert found == (SMALL, STAMP)


def repacked(packed: bytes, **changes: bytes | None) -> bytes:
    """The same archive with lawful checksums, some of its parts changed or left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = changes.get(name.replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("part", ["model.txt", "model.pkl"])
def test_unpack_model_refuses_a_changed_part_without_unpickling(
    packed: bytes, models: tuple[FittedModel, FittedModel], tmp_path: Path, part: str
) -> None:
    mark = tmp_path / "mark"
    changed = pickle.dumps(Marker(mark))
    original = {"model.txt": models[0].text.encode(), "model.pkl": models[0].pickled}[part]
    with pytest.raises(TamperedArtifactError, match=re.escape(f"classifier: {part}")) as caught:
        unpack_model(repacked(packed, **{part.replace(".", "_"): changed}), "classifier")
    assert DIGEST.findall(str(caught.value)) == [sha256(original), sha256(changed)]
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.pkl", "unnamed"])
def test_unpack_model_unpacks_no_bomb(packed: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_MODEL_BYTES", len(packed))
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        for part in {*archive.namelist(), name}:
            bomb.writestr(part, bytes(100 * len(packed)) if part == name else archive.read(part))
    assert len(buffer.getvalue()) < 2 * len(packed)
    if name == "unnamed":
        assert unpack_model(buffer.getvalue(), "classifier") == unpack_model(packed, "classifier")
    else:
        with pytest.raises(TamperedArtifactError, match="more than"):
            unpack_model(buffer.getvalue(), "classifier")


@pytest.mark.parametrize("part", ["model_txt", "model_pkl", "model_json"])
def test_unpack_model_refuses_a_missing_part(packed: bytes, part: str) -> None:
    with pytest.raises(TamperedArtifactError, match="classifier"):
        unpack_model(repacked(packed, **{part: None}), "classifier")


@pytest.mark.parametrize("field", ["stamp", "feature_names", "class_names", "sha256"])
def test_unpack_model_refuses_a_card_without_a_field(packed: bytes, field: str) -> None:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        card = json.loads(archive.read("model.json"))
    del card[field]
    with pytest.raises(TamperedArtifactError, match="classifier"):
        unpack_model(repacked(packed, model_json=json.dumps(card).encode()), "classifier")


def test_unpack_model_refuses_a_card_without_digests(packed: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        card = json.loads(archive.read("model.json"))
    card["sha256"] = {}
    changed = pickle.dumps(Marker(tmp_path / "mark"))
    with pytest.raises(TamperedArtifactError, match="classifier"):
        unpack_model(repacked(packed, model_json=json.dumps(card).encode(), model_pkl=changed), "classifier")


def test_package_versions_names_the_packages_behind_a_model() -> None:
    found = package_versions()
    assert {"lightgbm", "numpy", "polars", "scikit-learn", "boursomatic-assets"} <= set(found)
    assert found["polars"] == pl.__version__


def test_code_revision_has_source_digest_and_commit() -> None:
    code_revision.cache_clear()
    found = code_revision()
    assert found["package"] == boursomatic_assets.__version__
    assert DIGEST.fullmatch(str(found["source_sha256"]))
    folder = Path(boursomatic_assets.__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=folder,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found["git"] == (commit.stdout.strip() if commit.returncode == 0 else None)
