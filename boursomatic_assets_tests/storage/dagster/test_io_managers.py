"""The IO managers at work in small real asset graphs. Dagster reads real annotations: no future import here."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from boursomatic_assets.assets import market_data
from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.core.market.bars import BAR_SCHEMA, INSTRUMENT_SCHEMA, CheckedBars
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.errors import (
    ArtifactWriteError,
    BoursomaticError,
    MissingArtifactError,
    StaleInputError,
    TamperedArtifactError,
)
from boursomatic_assets.storage.dagster.io_managers import JsonIOManager, ModelIOManager, ParquetIOManager
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.table_manager import TableIOManager
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.features_table import write_features
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import write_bars
from boursomatic_assets_tests.support.catalog import rows, run
from boursomatic_assets_tests.support.strategies import flat_bars

PANEL = pl.DataFrame(
    {
        "symbol": ["AAA", "AAA", "BBB"],
        "session": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 2)],
        "close": [1 / 3, None, -0.0],
        "label": pl.Series(["BUY", None, "SELL"], dtype=pl.Enum(["BUY", "HOLD", "SELL"])),
    }
)
MODEL = FittedModel("tree\n", b"pickle", ("ret_1d",), ("BUY", "HOLD", "SELL"))


def resources() -> dict[str, Any]:
    """As the definitions have them: configured at launch, for assets and IO managers alike."""
    shared = {
        "experiment": ExperimentResource.configure_at_launch(),
        "platform": PlatformResource.configure_at_launch(),
    }
    return {
        **shared,
        "tables": TableIOManager(**shared),
        "panels": ParquetIOManager(**shared),
        "models": ModelIOManager(**shared),
        "figures": JsonIOManager(**shared),
    }


_instances: list[dg.DagsterInstance] = []


@pytest.fixture(autouse=True)
def instance() -> Iterator[dg.DagsterInstance]:
    """The instance of a test: its runs follow one another."""
    with dg.DagsterInstance.ephemeral() as instance:
        _instances.append(instance)
        yield instance
        _instances.pop()


def materialize(*assets: Any, only: str | None = None, **config: dict[str, Any]) -> dg.ExecuteInProcessResult:  # noqa: ANN401
    """Materialize assets, or one of them, with this configuration of the resources."""
    return dg.materialize(
        list(assets),
        instance=_instances[-1],
        resources=resources(),
        run_config={"resources": {name: {"config": values} for name, values in config.items()}},
        selection=only and [only],
    )


def read_back(
    *assets: dg.AssetsDefinition,
    only: str | None = None,
    metadata: dict[str, dict[str, Any]] | None = None,
    types: dict[str, Any] | None = None,
    **config: dict[str, Any],
) -> dict[str, Any]:
    """Materialize assets, or only their reader, and return what that reads of them, by asset name.

    `metadata` is that of the reader's inputs; `types` annotate them.
    """
    seen: dict[str, Any] = {}
    names = [asset.key.to_user_string() for asset in assets]
    ins = {
        name: dg.AssetIn(name, metadata=(metadata or {}).get(name), **({"dagster_type": kind} if kind else {}))
        for name in names
        for kind in [(types or {}).get(name)]
    }

    @dg.asset(ins=ins)
    def reader(**given: Any) -> None:  # noqa: ANN401
        seen.update(given)

    materialize(*assets, reader, only=only, **config)
    return seen


AS_POLARS = {"labels": pl.DataFrame}


def recorded(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


@dg.asset(io_manager_key="panels")
def labels() -> pl.DataFrame:
    return PANEL


@dg.asset(io_manager_key="panels")
def train_set(labels: pl.DataFrame) -> pl.DataFrame:
    return labels


@dg.asset(io_manager_key="models")
def classifier() -> FittedModel:
    return MODEL


@dg.asset(io_manager_key="figures")
def metrics() -> dict[str, Any]:
    return {"test_accuracy": 0.1 + 0.2, "undefined": {"sharpe_ratio": "no variance"}, "rows": [1, 2]}


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    os.environ["ARTIFACTS_DIR"] = str(tmp_path / "artifacts")
    return tmp_path / "artifacts" / "assets"


def test_panels_round_trip_as_polars(artifacts: Path) -> None:
    seen = []

    @dg.asset
    def reader(labels: pl.DataFrame) -> None:
        seen.append(labels)

    result = materialize(labels, reader)
    assert type(seen[0]) is pl.DataFrame
    assert seen[0].schema == PANEL.schema
    assert seen[0].equals(PANEL)
    assert str(seen[0]["close"][2]) == "-0.0"
    path = artifacts / "labels.parquet"
    metadata = recorded(result, "labels")
    assert metadata["path"] == str(path)
    assert metadata["bytes"] == path.stat().st_size
    # Any reader of Parquet finds the panel in it.
    assert pl.read_parquet(path).equals(PANEL)


def test_panels_load_as_pandas_unless_annotated_polars(artifacts: Path) -> None:
    found = [read_back(labels, types=types)["labels"] for types in ({"labels": pd.DataFrame}, None)]
    assert artifacts.exists()
    for frame in found:
        assert isinstance(frame, pd.DataFrame)
        pd.testing.assert_frame_equal(frame, PANEL.to_pandas())


def test_panels_load_only_the_chosen_columns(artifacts: Path) -> None:
    found = read_back(labels, types=AS_POLARS, metadata={"labels": {"columns": ["session", "close"]}})
    assert artifacts.exists()
    assert found["labels"].equals(PANEL.select("session", "close"))


def test_models_and_figures_round_trip(artifacts: Path) -> None:
    assert read_back(classifier, metrics) == {
        "classifier": MODEL,
        "metrics": {"test_accuracy": 0.1 + 0.2, "undefined": {"sharpe_ratio": "no variance"}, "rows": [1, 2]},
    }
    assert sorted(path.name for path in artifacts.iterdir()) == ["classifier.zip", "metrics.json"]


def test_figures_refuse_nan_and_keep_the_stored_file(artifacts: Path) -> None:
    materialize(metrics)
    before = (artifacts / "metrics.json").read_bytes()

    @dg.asset(name="metrics", io_manager_key="figures")
    def with_a_nan() -> dict[str, Any]:
        return {"sharpe_ratio": float("nan")}

    with pytest.raises(ValueError, match="JSON"):
        materialize(with_a_nan)
    assert (artifacts / "metrics.json").read_bytes() == before


def test_artifacts_round_trip_at_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS_DIR", "memory://test_io_managers")
    seen = []

    @dg.asset
    def reader(labels: pl.DataFrame, classifier: FittedModel, metrics: dict[str, Any]) -> None:
        seen.append((labels, classifier, metrics["rows"]))

    result = materialize(
        labels, classifier, metrics, reader, platform={"artifacts_dir": "memory://test_io_managers/artifacts"}
    )
    assert seen[0][0].equals(PANEL)
    assert seen[0][1:] == (MODEL, [1, 2])
    assert recorded(result, "labels")["path"] == "memory://test_io_managers/artifacts/assets/labels.parquet"
    MemoryFileSystem.store.clear()


def parquet_of_others() -> bytes:
    path = UPath("memory://others.parquet")
    with path.open("wb") as file:
        PANEL.write_parquet(file)
    return path.read_bytes()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _content: b"",
    "four bytes left": lambda content: content[:4],
    "half left": lambda content: content[: len(content) // 2],
    "the end missing": lambda content: content[:-2],
    "zeros": lambda content: b"\0" * len(content),
    "a list": lambda _content: b"[]",
    "an empty object": lambda _content: b"{}",
    "another program's": lambda _content: parquet_of_others(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_reported_with_a_command(artifacts: Path, damage: str) -> None:
    assets = {"labels.parquet": labels, "classifier.zip": classifier, "metrics.json": metrics}
    materialize(*assets.values())
    for file, asset in assets.items():
        (artifacts / file).write_bytes(DAMAGES[damage]((artifacts / file).read_bytes()))
        with pytest.raises(TamperedArtifactError, match=f"boursomatic materialize --select {asset.key.path[-1]}"):
            read_back(asset, only="reader")


def test_truncated_parquet_is_reported(artifacts: Path) -> None:
    materialize(labels)
    whole = (artifacts / "labels.parquet").read_bytes()
    context = dg.build_input_context(
        asset_key=dg.AssetKey("labels"), dagster_type=dg.PythonObjectDagsterType(pl.DataFrame)
    )
    manager = ParquetIOManager(experiment=ExperimentResource(), platform=PlatformResource())
    assert manager.decode(whole, context)[0].equals(PANEL)
    for length in range(0, len(whole), 7):
        with pytest.raises(TamperedArtifactError, match="--select labels"):
            manager.decode(whole[:length], context)


@pytest.mark.parametrize("asset", [labels, classifier, metrics])
def test_missing_asset_is_reported_with_a_command(artifacts: Path, asset: dg.AssetsDefinition) -> None:
    name = asset.key.path[-1]
    with pytest.raises(MissingArtifactError) as caught:
        read_back(asset, only="reader")
    assert str(artifacts) in str(caught.value)
    assert f"boursomatic materialize --select {name}" in str(caught.value)


def test_stale_input_is_refused_with_its_differences(artifacts: Path) -> None:
    materialize(labels, experiment={"horizon": 10, "sell_threshold": -0.03})
    before = (artifacts / "labels.parquet").read_bytes()
    with pytest.raises(StaleInputError) as caught:
        materialize(labels, train_set, only="train_set", experiment={"horizon": 15})
    message = str(caught.value)
    assert "horizon: 10 -> 15" in message
    assert "sell_threshold: -0.03 -> -0.02" in message
    # Equal values are not listed, and the command names the first asset.
    assert "buy_threshold" not in message
    assert "boursomatic materialize --select 'labels+'" in message
    assert (artifacts / "labels.parquet").read_bytes() == before


def test_stale_input_depends_only_on_its_part_of_the_experiment(artifacts: Path) -> None:
    materialize(labels)
    # Labels depend neither on the split nor on the models; the sets depend on the split.
    result = materialize(labels, train_set, only="train_set", experiment={"train_fraction": 0.6, "seed": 7})
    assert result.success

    with pytest.raises(StaleInputError) as caught:
        read_back(labels, train_set, only="reader", experiment={"seed": 7})
    assert "train_fraction: 0.6 -> 0.7" in str(caught.value)
    assert "seed" not in str(caught.value)
    assert artifacts.exists()


@pytest.mark.parametrize("asset", [classifier, metrics])
def test_stale_models_and_figures_are_refused(artifacts: Path, asset: dg.AssetsDefinition) -> None:
    materialize(asset, experiment={"seed": 1})
    assert artifacts.exists()
    with pytest.raises(StaleInputError) as caught:
        read_back(asset, only="reader", experiment={"seed": 2})
    assert "seed: 1 -> 2" in str(caught.value)


def test_experiment_reaches_asset_and_io_manager(artifacts: Path) -> None:
    seen = []

    @dg.asset(name="labels", io_manager_key="panels")
    def asks(experiment: ExperimentResource) -> pl.DataFrame:
        seen.append(experiment.value())
        return PANEL

    materialize(asks, experiment={"horizon": 7, "classifier": {"num_leaves": 5}})
    assert seen[0].horizon == 7
    assert seen[0].classifier.num_leaves == 5
    # Other fields keep their defaults, nested ones too.
    assert (seen[0].buy_threshold, seen[0].classifier.max_depth) == (0.05, 5)
    stamp = json.loads(pl.read_parquet_metadata(artifacts / "labels.parquet")["boursomatic"])
    assert stamp["asset"] == "labels"
    assert stamp["experiment"]["horizon"] == 7
    assert stamp["experiment"] == seen[0].part_for("labels")


def test_invalid_experiment_is_refused_before_any_write(artifacts: Path) -> None:
    with pytest.raises(BoursomaticError) as caught:
        materialize(labels, experiment={"buy_threshold": -0.5})
    assert "sell_threshold must be below buy_threshold" in str(caught.value)
    assert not artifacts.exists()


def test_artifacts_dir_holds_for_the_whole_run(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path))
    seen = []

    @dg.asset
    def reader(labels: pl.DataFrame, platform: PlatformResource) -> None:
        seen.append((labels.height, str(platform.artifacts())))

    materialize(labels, reader, platform={"artifacts_dir": str(tmp_path / "elsewhere")})
    assert seen == [(3, str(tmp_path / "elsewhere"))]
    assert (tmp_path / "elsewhere" / "assets" / "labels.parquet").exists()
    assert not artifacts.exists()


@pytest.mark.parametrize("occupied", ["artifacts", "artifacts/assets"])
def test_unwritable_artifacts_folder_is_named(tmp_path: Path, occupied: str) -> None:
    os.environ["ARTIFACTS_DIR"] = str(tmp_path / "artifacts")
    (tmp_path / occupied).parent.mkdir(exist_ok=True)
    (tmp_path / occupied).write_text("a file in its place")
    with pytest.raises(ArtifactWriteError) as caught:
        materialize(labels)
    assert str(tmp_path / "artifacts") in str(caught.value)
    assert "--artifacts-dir" in str(caught.value)
    assert (tmp_path / occupied).read_text() == "a file in its place"


def test_artifact_that_cannot_be_replaced_stays(artifacts: Path) -> None:
    # A folder with content in the file's place.
    (artifacts / "labels.parquet").mkdir(parents=True)
    (artifacts / "labels.parquet" / "previous").write_text("kept")
    with pytest.raises(ArtifactWriteError):
        materialize(labels)
    assert [path.name for path in artifacts.iterdir()] == ["labels.parquet"]
    assert (artifacts / "labels.parquet" / "previous").read_text() == "kept"


BARS = flat_bars({"AAA": [1.0, 2.0, 3.0], "BBB": [4.0, 5.0, 6.0]})


@dg.asset(io_manager_key="tables")
def instruments(platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    blank = dict.fromkeys(INSTRUMENT_SCHEMA)
    listed = [{**blank, "symbol": symbol, "exchange": "XNYS"} for symbol in ("AAA", "BBB")]
    write_instruments(platform.database(), pl.DataFrame(listed, schema=INSTRUMENT_SCHEMA))
    return dg.MaterializeResult()


@dg.asset(io_manager_key="tables", deps=[instruments])
def price_bars(platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    rejected = BARS.clear().with_columns(reason=pl.lit("", pl.String))
    write_bars(platform.database(), CheckedBars(BARS, rejected), "sample")
    return dg.MaterializeResult()


@dg.asset(io_manager_key="tables")
def features(price_bars: pl.DataFrame, platform: PlatformResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    blank = {name: pl.lit(None, pl.Float64) for name in FEATURE_NAMES}
    values = price_bars.select("symbol", "session", **{**blank, "ret_1d": pl.col("close") / 2})
    write_features(platform.database(), values)
    return dg.MaterializeResult()


@pytest.mark.usefixtures("database")
def test_table_manager_reads_the_market_assets() -> None:
    seen: dict[str, Any] = {}

    @dg.asset
    def reader(instruments: pl.DataFrame, price_bars: pl.DataFrame, features: pd.DataFrame) -> None:
        seen.update(instruments=instruments, price_bars=price_bars, features=features)

    materialize(instruments, price_bars, features, reader)
    assert seen["instruments"]["symbol"].to_list() == ["AAA", "BBB"]
    assert seen["price_bars"].equals(BARS)
    assert isinstance(seen["features"], pd.DataFrame)
    assert list(seen["features"].columns) == ["symbol", "session", *FEATURE_NAMES]
    assert seen["features"]["ret_1d"].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_table_manager_reads_usable_bars(database: Database) -> None:
    asked = {"metadata": {"price_bars": {"columns": ["close", "exchange"]}}, "types": {"price_bars": pl.DataFrame}}
    materialize(instruments)
    before = read_back(price_bars, **asked)["price_bars"]
    add_adjustment(database, "AAA", date(2018, 1, 2), 0.5, None)
    run(database, "INSERT INTO unexplained_jumps VALUES ('BBB', '2018-01-02', 0.5, 0.5)")
    after = read_back(price_bars, only="reader", **asked)["price_bars"]
    assert before["close"].to_list() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    # before its split 1 * 0.5; BBB is quarantined
    assert after.rows() == [
        ("AAA", date(2018, 1, 1), 0.5, "XNYS"),
        ("AAA", date(2018, 1, 2), 2.0, "XNYS"),
        ("AAA", date(2018, 1, 3), 3.0, "XNYS"),
    ]


@pytest.mark.parametrize("name", ["instruments", "price_bars", "features"])
def test_table_manager_refuses_to_write(database: Database, name: str) -> None:
    @dg.asset(name=name, io_manager_key="tables")
    def hands_over() -> pl.DataFrame:
        return BARS

    with pytest.raises(TypeError, match=f"{name} is kept in its table, not handed over as DataFrame"):
        materialize(hands_over)
    assert rows(database, "SELECT (SELECT count(*) FROM instruments) + (SELECT count(*) FROM price_bars)") == [(0,)]


@pytest.mark.usefixtures("database")
def test_table_manager_selects_columns_and_recent_rows() -> None:
    seen = []

    @dg.asset(
        ins={
            "price_bars": dg.AssetIn(metadata={"columns": ["close"], "recent": True}),
            "features": dg.AssetIn(metadata={"columns": ["ret_1d"]}),
        }
    )
    def reader(price_bars: pl.DataFrame, features: pl.DataFrame) -> None:
        seen.extend([price_bars, features])

    # Sessions are Monday to Wednesday, 2018-01-01 to 03: one day before the newest is Tuesday.
    materialize(instruments, price_bars, features, reader, experiment={"lookback_days": 1})
    assert seen[0].equals(BARS.filter(pl.col("session") >= date(2018, 1, 2)).select("symbol", "session", "close"))
    assert seen[0].height == 4
    assert seen[1].columns == ["symbol", "session", "ret_1d"]
    assert seen[1].height == 6


@pytest.mark.usefixtures("database")
def test_table_metadata_hides_the_password() -> None:
    os.environ["DATABASE_URL"] = os.environ["DATABASE_URL"].replace("postgres:@", "postgres:hush-hush@")
    metadata = recorded(materialize(market_data.instruments, platform={"provider": "sample"}), "instruments")
    assert metadata["dagster/uri"].startswith("postgresql://postgres:***@")
    assert metadata["dagster/table_name"] == "public.instruments"
    assert "hush" not in str(metadata)


def test_empty_panel_keeps_its_schema(artifacts: Path) -> None:
    @dg.asset(name="labels", io_manager_key="panels")
    def empty() -> pl.DataFrame:
        return pl.DataFrame(schema=BAR_SCHEMA)

    found = read_back(empty, types=AS_POLARS)
    assert artifacts.exists()
    assert found["labels"].schema == pl.Schema(BAR_SCHEMA)
