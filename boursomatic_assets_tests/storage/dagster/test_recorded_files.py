"""What the event log recorded of a stored file, against the file that is read. Dagster reads real annotations."""

import os
import pickle
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.definitions import defs
from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.bundles import pack_model
from boursomatic_assets.storage.artifacts.folds import StoredFolds, fold_key, fold_path
from boursomatic_assets.storage.artifacts.recorded import FILE_SHA256
from boursomatic_assets.storage.artifacts.stamps import (
    figures_version,
    panel_version,
    stamp_for,
    to_json,
    to_parquet,
)
from boursomatic_assets.storage.dagster.instance import DATA_VERSION_TAG
from boursomatic_assets.storage.dagster.io_managers import ParquetIOManager
from boursomatic_assets.storage.dagster.recorded_files import file_metadata
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

EXPERIMENT = Experiment()
PANEL = pl.DataFrame({"symbol": ["AAA", "BBB"], "session": [date(2020, 1, 2)] * 2, "close": [1.0, 2.0]})
MODEL = FittedModel("tree\nend of trees\n", b"pickle", ("ret_1d",))
FACTS = {
    **dict.fromkeys(("train_first", "train_last", "train_last_label_end", "test_first", "test_last"), "2020-01-02"),
    "fold": 1, "train_rows": 2, "rows": 2,
}  # fmt: skip
SUFFIXES = {"panels": "parquet", "figures": "json", "models": "zip"}
RESOURCES: dict[str, Any] = {"experiment": ExperimentResource(), "platform": PlatformResource()}


with dg.build_resources({}) as NOTHING:
    pass


def stored_assets() -> dict[str, str]:
    """The IO manager of each asset that is kept in a file."""
    graph = defs.resolve_asset_graph()
    managers = {
        key.path[-1]: graph.get(key).assets_def.get_io_manager_key_for_asset_key(key)
        for key in graph.get_all_asset_keys()
    }
    return {asset: manager for asset, manager in managers.items() if manager in {*SUFFIXES, "folds"}}


STORED = stored_assets()


def encoded(asset: str) -> bytes:
    stamp = stamp_for(asset, EXPERIMENT)
    match STORED[asset]:
        case "panels":
            return to_parquet(PANEL, stamp)
        case "figures":
            return to_json({"tau": 0.5}, stamp)
        case "models":
            return pack_model(MODEL, stamp)
    return to_parquet(PANEL, {**stamp, "labels": "x", "fold": FACTS})


def path_of(artifacts: Path, asset: str) -> Path:
    if STORED[asset] == "folds":
        return Path(fold_path(UPath(str(artifacts)), 1).path)
    return artifacts / "assets" / f"{asset}.{SUFFIXES[STORED[asset]]}"


def report(instance: dg.DagsterInstance, asset: str, metadata: dict[str, Any], version: str | None = None) -> None:
    tags = None if version is None else {DATA_VERSION_TAG: version}
    partition = fold_key(1) if STORED[asset] == "folds" else None
    made = dg.AssetMaterialization(asset, metadata=metadata, tags=tags, partition=partition)
    instance.report_runless_asset_event(made)


def store(instance: dg.DagsterInstance, artifacts: Path, asset: str) -> Path:
    """A file of the asset, recorded as its IO manager records one."""
    path, content = path_of(artifacts, asset), encoded(asset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    report(instance, asset, file_metadata(UPath(str(path)), content))
    return path


def load(instance: dg.DagsterInstance | None, asset: str, kind: type = pl.DataFrame) -> Any:  # noqa: ANN401
    """What an input gets, by the IO manager that the definitions name for the asset."""
    manager = type(defs.resources[STORED[asset]])(**RESOURCES)
    partitions = dg.DynamicPartitionsDefinition(name="walk_forward_folds")
    fold = {
        "asset_partitions_subset": partitions.subset_with_partition_keys([fold_key(1)]),
        "asset_partitions_def": partitions,
    }
    # Not by `build_input_context`, which makes an instance of its own each time.
    context = dg.InputContext(
        asset_key=dg.AssetKey(asset),
        dagster_type=dg.PythonObjectDagsterType(kind),
        instance=instance,
        resources=NOTHING,
        **(fold if STORED[asset] == "folds" else {}),
    )
    return manager.load_input(context)


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """One for all tests: the newest record of an asset counts."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def empty_instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_every_kind_of_stored_asset_is_tried() -> None:
    assert set(STORED.values()) == {*SUFFIXES, "folds"}
    assert {"labels", "train_set", "classifier", "threshold", "metrics", "walk_forward", "drift"} <= set(STORED)


@pytest.mark.parametrize("asset", ["labels", "classifier", "threshold", "walk_forward"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_refused_at_once(
    instance: dg.DagsterInstance, artifacts: Path, asset: str, make: Callable[[Path], None]
) -> None:
    path = store(instance, artifacts, asset)
    path.unlink()
    make(path)
    with pytest.raises(TamperedArtifactError, match="found a folder, a pipe or a device"):
        load(instance, asset)


@pytest.mark.parametrize("asset", sorted(STORED))
def test_one_changed_byte_of_any_stored_asset_is_refused(
    instance: dg.DagsterInstance, artifacts: Path, asset: str
) -> None:
    path = store(instance, artifacts, asset)
    assert load(instance, asset) is not None
    whole = path.read_bytes()
    for place in (0, len(whole) // 3, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(TamperedArtifactError) as caught:
            load(instance, asset)
        message = str(caught.value)
        assert f"{asset} is not what was stored: expected file_sha256 {sha256(whole)}" in message
        assert f"found {sha256(bytes(changed))} in {path}" in message
        assert message.endswith(f"boursomatic materialize --select {asset}")


@pytest.mark.parametrize("asset", sorted(STORED))
def test_a_whole_file_of_before_is_refused(instance: dg.DagsterInstance, artifacts: Path, asset: str) -> None:
    # Every digest in it is in order: only the event log knows that another one came after it.
    store(instance, artifacts, asset)
    report(instance, asset, {FILE_SHA256: "0" * 64})
    with pytest.raises(TamperedArtifactError, match=f"expected file_sha256 {'0' * 64}"):
        load(instance, asset)


@pytest.mark.parametrize("asset", ["labels", "threshold", "classifier", "walk_forward"])
def test_a_file_that_nothing_recorded_is_refused(
    empty_instance: dg.DagsterInstance, artifacts: Path, asset: str
) -> None:
    path = path_of(artifacts, asset)
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(asset))
    with pytest.raises(MissingArtifactError, match="was never materialized here: boursomatic materialize --select"):
        load(empty_instance, asset)
    with pytest.raises(MissingArtifactError, match=r"only the Dagster instance that recorded it can verify it"):
        load(None, asset)


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "labels": lambda _: to_parquet(PANEL.with_columns(close=3.0), stamp_for("labels", EXPERIMENT)),
    "threshold": lambda _: to_json({"tau": 0.6}, stamp_for("threshold", EXPERIMENT)),
    "classifier": lambda _: pack_model(
        FittedModel(MODEL.text, b"another", MODEL.feature_names), stamp_for("classifier", EXPERIMENT)
    ),
    "regressor": lambda _: pack_model(
        FittedModel("another\n", MODEL.pickled, MODEL.feature_names), stamp_for("regressor", EXPERIMENT)
    ),
    "walk_forward": lambda content: content + b" ",
}


def recorded_earlier(asset: str, content: bytes) -> tuple[dict[str, Any], str | None]:
    """Metadata and data version of versions that recorded no digest of a file."""
    match STORED[asset]:
        case "panels":
            return {}, panel_version(content, asset)["data_version"]
        case "figures":
            return {}, figures_version(content, asset)["data_version"]
        case "models":
            return {"text_sha256": sha256(MODEL.text.encode()), "pickle_sha256": sha256(MODEL.pickled)}, None
    return {"bytes": len(content)}, None


@pytest.mark.parametrize("asset", OTHERS)
def test_what_an_earlier_version_recorded_is_read_and_compared(
    instance: dg.DagsterInstance, artifacts: Path, asset: str
) -> None:
    path = store(instance, artifacts, asset)
    content = path.read_bytes()
    report(instance, asset, *recorded_earlier(asset, content))
    assert load(instance, asset) is not None
    path.write_bytes(OTHERS[asset](content))
    with pytest.raises(TamperedArtifactError, match=f"--select {asset}"):
        load(instance, asset)
    # Reported by hand, with nothing to compare.
    path.write_bytes(content)
    report(instance, asset, {})
    with pytest.raises(TamperedArtifactError, match=r"expected .* None"):
        load(instance, asset)


@dg.asset(io_manager_key="panels")
def labels() -> pl.DataFrame:
    return PANEL


@dg.asset(deps=[labels])
def another_run(context: dg.AssetExecutionContext) -> None:
    """Stores other labels, in order and recorded, while this run goes on."""
    path = UPath(os.environ["ARTIFACTS_DIR"]) / "assets" / "labels.parquet"
    content = OTHERS["labels"](b"")
    path.write_bytes(content)
    report(context.instance, "labels", file_metadata(path, content))


@dg.asset(deps=[another_run])
def total(labels: pl.DataFrame) -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(metadata={"close": labels["close"].sum()})


def test_a_run_reads_what_it_stored_itself_and_a_later_one_the_newest(
    instance: dg.DagsterInstance, artifacts: Path
) -> None:
    resources = {**RESOURCES, "panels": ParquetIOManager(**RESOURCES)}
    with pytest.raises(TamperedArtifactError, match="labels is not what was stored"):
        dg.materialize([labels, another_run, total], instance=instance, resources=resources)
    result = dg.materialize(
        [labels, another_run, total], instance=instance, resources=resources, selection=["total"]
    )
    (made,) = result.asset_materializations_for_node("total")
    # 3.0 for each of the two rows
    assert made.metadata["close"].value == 6.0
    assert (artifacts / "assets" / "labels.parquet").exists()


def test_all_folds_are_compared_each_with_its_own(instance: dg.DagsterInstance, artifacts: Path) -> None:
    root, content = UPath(str(artifacts)), {}
    for number in range(1, EXPERIMENT.walk_forward.folds + 1):
        stamp = {**stamp_for("walk_forward", EXPERIMENT), "labels": "x", "fold": {**FACTS, "fold": number}}
        content[number] = to_parquet(PANEL, stamp)
        path = fold_path(root, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[number])
        metadata = file_metadata(path, content[number])
        made = dg.AssetMaterialization("walk_forward", metadata=metadata, partition=fold_key(number))
        instance.report_runless_asset_event(made)
    folds = load(instance, "walk_forward", StoredFolds)
    assert isinstance(folds, StoredFolds)
    assert [fold.fold for fold in folds.facts] == list(content)
    fold_path(root, 2).write_bytes(content[3])
    with pytest.raises(TamperedArtifactError, match="fold_02 of walk_forward is not what was stored"):
        load(instance, "walk_forward", StoredFolds)


@pytest.mark.parametrize("asset", ["report", "model_version"])
def test_assets_without_a_value_are_not_unpickled(asset: str, instance: dg.DagsterInstance) -> None:
    # Dagster's default would open the pickle of this name.
    pickled = Path(instance.storage_directory()) / asset
    pickled.parent.mkdir(parents=True, exist_ok=True)
    pickled.write_bytes(pickle.dumps("opened"))
    with pytest.raises(MissingArtifactError, match=f"{asset} has no value to load"):
        defs.load_asset_value(asset, instance=instance)
