"""The whole graph on the bundled sample, run twice for real: what is in UI, database and bundle afterwards."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from PIL import Image
from polars.testing import assert_frame_equal

from boursomatic_assets import assets as assets_package
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, FEATURE_NAMES, compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import split_panel
from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.core.registry.bundle import strict_json
from boursomatic_assets.core.registry.retraining import retrain
from boursomatic_assets.core.trace.lineage import column_dependencies
from boursomatic_assets.definitions import MODULES, defs
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.installation import new_installation
from boursomatic_assets_tests.support.oracles import sample_bars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

VERSION = re.compile(r"^\d{8}_\d{6}_[0-9a-f]{6}$")
PANELS = ("labels", "train_set", "validation_set", "test_set")
BOOKS = ("portfolio", "positions", "trades")
KEPT = (*PANELS, "predictions", "feature_importance", "baselines", *BOOKS, "drift")
TABLES = ("instruments", "price_bars", "features", *KEPT)
MODELS = ("classifier", "regressor")
JUDGED = ("evaluation", "walk_forward", "walk_forward_summary", "report")
SERVED = ("recommendations", "outcomes")
ASSETS = (*TABLES, *MODELS, "threshold", "metrics", "model_version", *JUDGED, *SERVED)
SETS = {"train_set": "train", "validation_set": "val", "test_set": "test"}
ENUMS = {
    **dict.fromkeys(("label", "predicted_label"), "Enum(BUY, HOLD, SELL)"),
    "set": "Enum(validation, test)",
    # Seven books are too many to name in a column of a page.
    "book": "Enum",
}
PICTURES = {
    "labels": {"label_mix"},
    **{name: {"label_mix", "timeline"} for name in SETS},
    **{name: {"where_each_input_comes_from"} for name in MODELS},
    "metrics": {"confusion_matrices", "equity_and_drawdown"},
    "feature_importance": {"importance"},
    "recommendations": {"label_mix", "where_each_profile_buys"},
    "outcomes": {"expected_and_realised"},
    "drift": {"picture"},
}
BUNDLE = {
    "classifier.pkl", "regressor.pkl", "classifier.txt", "regressor.txt",
    "metrics.json", "feature_importance.csv", "reference.json", "manifest.json",
}  # fmt: skip
Rows = dict[str, dict[str, tuple[object, ...]]]
EMBEDDED_PICTURE = re.compile(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")


@dataclass(frozen=True)
class Run:
    """One run of the graph, with what it left behind read before the next one."""

    result: dg.ExecuteInProcessResult
    installation: Installation

    @cached_property
    def materializations(self) -> dict[str, dg.AssetMaterialization]:
        events = [event for event in self.result.all_events if event.is_step_materialization]
        return {event.asset_key.to_user_string(): event.materialization for event in events}

    @cached_property
    def versions(self) -> dict[str, str]:
        """Data version of each asset."""
        return {name: made.tags["dagster/data_version"] for name, made in self.materializations.items()}

    def metadata(self, asset: str) -> dict[str, Any]:
        return {name: entry.value for name, entry in self.materializations[asset].metadata.items()}

    @cached_property
    def bundle(self) -> Path:
        return Path(self.metadata("model_version")["path"])

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return strict(self.bundle / "manifest.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return strict(self.bundle / "metrics.json")

    @cached_property
    def row(self) -> dict[str, Any]:
        """Its row of `model_versions`, as psql would show it."""
        (found,) = self.installation.ask(
            "SELECT row_to_json(v) FROM model_versions v "  # noqa: S608 (a version's name)
            f"WHERE version = '{self.metadata('model_version')['version']}'"
        )
        return found[0]


def strict(path: Path) -> dict[str, Any]:
    """Read JSON as a strict reader does: NaN and infinities are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with new_installation() as made:
        assert made.run("db", "upgrade").code == 0
        yield made


@pytest.fixture(scope="module")
def first(installation: Installation) -> Run:
    return Run(installation.execute(platform={"threads": 1}), installation)


@pytest.fixture(scope="module")
def rows_of_the_first(first: Run) -> Rows:
    """Every row that the first run left, with the transaction that wrote it."""
    return first.installation.tables()


@pytest.fixture(scope="module")
def second(first: Run, rows_of_the_first: Rows) -> Run:
    """The same once more, on two threads instead of one."""
    assert rows_of_the_first
    return Run(first.installation.execute(platform={"threads": 2}), first.installation)


@pytest.fixture(scope="module")
def stored(first: Run) -> dict[str, pl.DataFrame]:
    """Panels as another program reads them from the artifacts."""
    return {name: pl.read_parquet(first.metadata(name)["path"]) for name in KEPT}


def test_one_run_materializes_every_asset_and_every_blocking_check_passes(first: Run) -> None:
    graph = defs.resolve_asset_graph()
    assert first.result.success
    assert (
        set(first.materializations) == {key.to_user_string() for key in graph.get_all_asset_keys()} == set(ASSETS)
    )
    evaluated = first.result.get_asset_check_evaluations()
    assert {made.asset_check_key for made in evaluated} == set(graph.asset_check_keys)
    assert [str(made.asset_check_key) for made in evaluated if made.blocking and not made.passed] == []
    # Bounds for hundreds of stocks: five with a dozen BUY calls exceed them by luck, and that is a warning.
    warned = {made.check_name: made.severity for made in evaluated if not made.passed}
    too_good = ("figures_are_plausible", "evaluated_figures_are_plausible")
    assert warned == dict.fromkeys(too_good, dg.AssetCheckSeverity.WARN)


def test_each_group_is_named_after_the_module_that_defines_it() -> None:
    groups = {}
    for module in MODULES:
        for found in vars(module).values():
            if isinstance(found, dg.AssetsDefinition) and not isinstance(found, dg.AssetChecksDefinition):
                groups |= {spec.key.to_user_string(): (spec.group_name, module.__name__) for spec in found.specs}
    assert set(groups) == set(ASSETS)
    assert all(module == f"boursomatic_assets.assets.{group}" for group, module in groups.values())
    files = {path.stem for path in Path(assets_package.__file__).parent.glob("*.py")}
    # The list of required checks names checks, and makes none.
    assert {group for group, _ in groups.values()} == files - {"__init__", "required_checks"}


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_has_description_kinds_owner_and_code_version(asset: str) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    assert node.description
    assert len(node.description) > 30
    assert node.kinds
    assert node.owners
    assert re.fullmatch(r"[0-9a-f]{12}", node.code_version)


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_shows_a_number_that_the_ui_can_plot_over_runs(first: Run, asset: str) -> None:
    plotted = [
        name
        for name, entry in first.materializations[asset].metadata.items()
        if isinstance(entry, dg.IntMetadataValue | dg.FloatMetadataValue)
    ]
    assert plotted


@pytest.mark.parametrize("asset", TABLES)
def test_every_table_has_its_rows_columns_and_a_description_of_each_column(
    first: Run, stored: dict[str, pl.DataFrame], asset: str
) -> None:
    metadata = first.metadata(asset)
    columns = {column.name: column for column in metadata["dagster/column_schema"].columns}
    if asset in stored:
        assert metadata["dagster/row_count"] == stored[asset].height
        assert {name: column.type for name, column in columns.items()} == {
            name: ENUMS.get(name, str(dtype)) for name, dtype in stored[asset].schema.items()
        }
    else:
        assert first.installation.ask(f"SELECT count(*) FROM {asset}") == [  # noqa: S608
            (metadata["dagster/row_count"],)
        ]
    assert [name for name, column in columns.items() if not column.description] == []


@pytest.mark.parametrize("asset", ["features", *PANELS, *MODELS, "predictions"])
def test_column_lineage_names_columns_that_exist_in_assets_right_upstream(first: Run, asset: str) -> None:
    lineage = first.metadata(asset)["dagster/column_lineage"].deps_by_column
    found = {
        column: {(dep.asset_key.to_user_string(), dep.column_name) for dep in deps}
        for column, deps in lineage.items()
    }
    assert found == {column: set(deps) for column, deps in column_dependencies(asset).items()}
    parents = defs.resolve_asset_graph().get(dg.AssetKey(asset)).parent_keys
    schemas = {parent.to_user_string(): columns_of(first, parent.to_user_string()) for parent in parents}
    assert [dep for deps in found.values() for dep in deps if dep[1] not in schemas[dep[0]]] == []


def columns_of(run: Run, asset: str) -> set[str]:
    """Columns of a table; of a model, what it predicts."""
    metadata = run.metadata(asset)
    if asset in MODELS:
        return set(metadata["dagster/column_lineage"].deps_by_column)
    return {column.name for column in metadata["dagster/column_schema"].columns}


def test_every_column_of_features_labels_sets_and_predictions_has_lineage(first: Run) -> None:
    for asset in ("features", *PANELS, "predictions"):
        metadata = first.metadata(asset)
        columns = [column.name for column in metadata["dagster/column_schema"].columns]
        assert list(metadata["dagster/column_lineage"].deps_by_column) == columns


@pytest.mark.parametrize("asset", TABLES)
def test_the_preview_of_a_table_shows_its_columns_and_a_few_rows(first: Run, asset: str) -> None:
    metadata = first.metadata(asset)
    head, rule, *rows = metadata["preview"].splitlines()
    columns = [column.name for column in metadata["dagster/column_schema"].columns]
    assert [cell.strip() for cell in head.strip("|").split("|")] == columns
    assert rule == "|" + "---|" * len(columns)
    # Five rows; of a panel the newest of each symbol, and FB came too late for the first two sets. Of the books the
    # newest row of each, of which there are six without a benchmark, and two that the model makes. Of drift all
    # that is compared: six statistics of eight features, and two of the predictions.
    few = {"train_set": 4, "validation_set": 4, "portfolio": 6, "positions": 2, "trades": 2, "drift": 6 * 8 + 2}
    assert len(rows) == few.get(asset, 5)
    if "symbol" in columns and asset not in BOOKS:
        assert rows[0].startswith("| AAPL |")


def test_models_figures_and_version_have_a_preview_of_their_own(first: Run) -> None:
    for name in MODELS:
        assert "tree" in first.metadata(name)["preview"]
        assert "feature_names=" + " ".join(DEFAULT_INPUTS) in first.metadata(name)["preview"]
    assert first.metadata("metrics")["preview"] == first.metrics
    for file in BUNDLE - {"manifest.json"}:
        assert file in first.metadata("model_version")["preview"]


@pytest.mark.parametrize(("asset", "names"), PICTURES.items(), ids=PICTURES)
def test_promised_pictures_are_readable_and_small(first: Run, asset: str, names: set[str]) -> None:
    entries = first.metadata(asset)
    pictures = {
        name: found.group(1)
        for name, value in entries.items()
        if isinstance(value, str) and (found := EMBEDDED_PICTURE.search(value))
    }
    assert set(pictures) == names
    for encoded in pictures.values():
        content = base64.b64decode(encoded, validate=True)
        # stored per run in the instance database: notes ask for about 20 kB, the lineage of all columns needs more
        assert len(content) < 60_000
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert picture.width >= 300
            assert len(picture.convert("L").getcolors(256)) > 1


def test_paths_lead_to_what_was_stored(first: Run) -> None:
    for name in (*KEPT, *MODELS, "threshold", "metrics"):
        path = Path(first.metadata(name)["path"])
        assert path.is_relative_to(first.installation.artifacts)
        assert path.stat().st_size == first.metadata(name)["bytes"]
    for name in ("instruments", "price_bars", "features"):
        assert first.metadata(name)["dagster/table_name"] == f"public.{name}"
        assert first.metadata(name)["dagster/uri"].startswith("postgresql://")


def test_data_versions_are_the_content_and_nothing_else(first: Run, stored: dict[str, pl.DataFrame]) -> None:
    for name in KEPT:
        assert first.versions[name] == fingerprint(stored[name])
    for name in MODELS:
        assert first.versions[name] == hashlib.sha256((first.bundle / f"{name}.txt").read_bytes()).hexdigest()
    assert first.versions["metrics"] == hashlib.sha256((first.bundle / "metrics.json").read_bytes()).hexdigest()
    assert len(set(first.versions.values())) == len(ASSETS)


def test_the_bars_in_the_database_are_the_sample_scaled_to_adjusted_closes(first: Run) -> None:
    raw = sample_bars()
    factor = raw["adj_close"] / raw["close"]
    expected = pl.from_pandas(
        pd.DataFrame(
            {
                "symbol": raw["symbol"],
                "session": pd.to_datetime(raw["session"]),
                **{name: raw[name] * factor for name in ("open", "high", "low", "close")},
                "volume": raw["volume"].astype(float),
            }
        )
    ).cast({"session": pl.Date})
    assert_frame_equal(bars_of(first.installation), expected.sort("symbol", "session"), rel_tol=1e-12)
    assert first.installation.ask("SELECT DISTINCT interval, ts = ts::date FROM price_bars") == [("daily", True)]
    assert first.installation.ask("SELECT count(*) FROM rejected_bars") == [(0,)]
    assert first.installation.ask("SELECT symbol, exchange FROM instruments ORDER BY symbol") == [
        ("AAPL", "XNAS"), ("FB", "XNAS"), ("GOOG", "XNAS"), ("IBM", "XNYS"), ("MSFT", "XNAS"),
    ]  # fmt: skip


def bars_of(installation: Installation) -> pl.DataFrame:
    found = installation.ask(
        "SELECT symbol, ts::date, o, h, l, c, v FROM price_bars b JOIN instruments i ON i.id = b.instrument_id"
    )
    return pl.DataFrame(found, schema=BAR_SCHEMA, orient="row").sort("symbol", "session")


def test_the_features_in_the_database_are_what_the_core_computes_to_the_last_bit(first: Run) -> None:
    names = ", ".join(f"f.{name}" for name in FEATURE_NAMES)
    found = first.installation.ask(
        f"SELECT symbol, ts::date, {names} FROM features f JOIN instruments i ON i.id = f.instrument_id"  # noqa: S608
    )
    expected = compute_features(bars_of(first.installation))
    actual = pl.DataFrame(found, schema=expected.schema, orient="row").sort("symbol", "session")
    assert_frame_equal(actual, expected, check_exact=True)


def test_labels_and_sets_are_what_the_core_makes_of_the_lookback(
    first: Run, stored: dict[str, pl.DataFrame]
) -> None:
    # 2,000 calendar days before the newest bar, 2013-03-01: from 2007-09-09 on
    bars = bars_of(first.installation)
    recent = pl.col("session") >= pl.date(2007, 9, 9)
    expected = label_panel(compute_features(bars).filter(recent), bars.filter(recent), Experiment())
    assert_frame_equal(stored["labels"], expected, check_exact=True)
    for name, panel in split_panel(expected, Experiment()).sets().items():
        assert_frame_equal(stored[name], panel, check_exact=True)


def test_retraining_in_one_call_gives_the_stored_models_and_metrics_byte_for_byte(
    first: Run, stored: dict[str, pl.DataFrame]
) -> None:
    made = retrain(stored["labels"], Experiment(), threads=1)
    assert strict_json(made.metrics_json) == (first.bundle / "metrics.json").read_bytes()
    assert made.classifier.text == (first.bundle / "classifier.txt").read_text()
    assert made.regressor.text == (first.bundle / "regressor.txt").read_text()
    assert made.importance.write_csv() == (first.bundle / "feature_importance.csv").read_text()
    assert_frame_equal(made.predictions, stored["predictions"], check_exact=True)
    assert made.threshold.to_json() == threshold_of_run(first)


def threshold_of_run(run: Run) -> dict[str, Any]:
    """The decision rule as it is kept."""
    return strict(Path(run.metadata("threshold")["path"]))["value"]


def test_predictions_are_of_both_unseen_sets_and_of_nothing_else(
    first: Run, stored: dict[str, pl.DataFrame]
) -> None:
    predictions = stored["predictions"]
    assert first.metadata("predictions")["rows_of_validation"] == stored["validation_set"].height
    assert first.metadata("predictions")["rows_of_test"] == stored["test_set"].height
    for name in ("validation", "test"):
        kept = ["symbol", "session", "label", "forward_return", "label_end", "vol_20d"]
        rows = predictions.filter(pl.col("set") == name).select(kept)
        assert_frame_equal(rows, stored[f"{name}_set"].select(kept), check_exact=True)
    assert predictions["session"].min() > stored["train_set"]["label_end"].max()
    calls = [first.metadata("predictions")[f"rows_{name}"] for name in ("buy", "hold", "sell")]
    assert sum(calls) == predictions.height


def test_the_manifest_and_the_figures_name_the_decision_rule(first: Run) -> None:
    rule = threshold_of_run(first)
    assert first.manifest["threshold"] == {name: rule[name] for name in ("tau", "reason", "temperature")}
    assert first.metrics["threshold"] == rule["tau"]
    assert first.metadata("threshold")["reason"] == rule["reason"]
    assert first.metadata("model_version")["decision_rule"] == rule["reason"]
    assert first.metadata("threshold")["candidate_values"] == len(rule["candidates"]) == 40


def test_the_newest_rows_wait_unlabelled_for_their_prediction(first: Run, stored: dict[str, pl.DataFrame]) -> None:
    # the last 20 sessions of each of the five stocks
    waiting = stored["labels"].filter(pl.col("label").is_null())
    assert first.metadata("labels")["rows_to_predict"] == waiting.height == 5 * 20
    for name in SETS:
        assert stored[name]["label"].null_count() == 0


def test_the_row_says_what_the_bundle_says(first: Run) -> None:
    made = first.metadata("model_version")
    assert first.row["version"] == first.manifest["version"] == first.bundle.name == made["version"]
    assert first.row["params_hash"] == first.manifest["params_hash"] == Experiment().params_hash
    assert first.row["metrics_json"] == first.metrics
    assert first.row["model_path"] == str(first.bundle)
    assert first.row["manifest_sha256"] == hashlib.sha256((first.bundle / "manifest.json").read_bytes()).hexdigest()
    assert first.bundle.parent == first.installation.artifacts / "models"


def test_a_version_is_named_by_its_training_time_in_utc_and_six_hexadecimal_digits(first: Run) -> None:
    assert VERSION.fullmatch(first.row["version"])
    trained_at = pd.Timestamp(first.row["trained_at"])
    assert first.row["version"].startswith(f"{trained_at:%Y%m%d_%H%M%S}_")
    assert first.manifest["trained_at"] == f"{trained_at.isoformat()}Z"
    assert abs(pd.Timestamp.now("UTC").tz_localize(None) - trained_at) < pd.Timedelta(minutes=30)


def test_the_bundle_holds_the_seven_files_and_a_digest_of_each(first: Run) -> None:
    assert {path.name for path in first.bundle.iterdir()} == BUNDLE
    assert set(first.manifest["files"]) == BUNDLE - {"manifest.json"}
    for name, recorded in first.manifest["files"].items():
        content = (first.bundle / name).read_bytes()
        assert recorded == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_the_manifest_tells_where_the_models_come_from(first: Run, stored: dict[str, pl.DataFrame]) -> None:
    manifest = first.manifest
    assert manifest["experiment"] == Experiment().model_dump(mode="json")
    assert manifest["feature_names"] == list(DEFAULT_INPUTS)
    assert manifest["class_names"] == ["BUY", "HOLD", "SELL"]
    assert manifest["run_id"] == first.result.run_id
    assert manifest["training_data"] == {
        name: {
            "content_sha256": fingerprint(stored[name]),
            "dagster/row_count": stored[name].height,
            "first_session": str(stored[name]["session"].min()),
            "last_session": str(stored[name]["session"].max()),
        }
        for name in SETS
    }


def test_the_manifest_tells_code_revision_and_package_versions(first: Run) -> None:
    checkout = Path(__file__).resolve().parents[2]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)  # noqa: S607
    code = first.manifest["code"]
    assert code["git"] == (git.stdout.strip() or None)
    assert code["package"] == importlib.metadata.version("boursomatic-assets")
    assert re.fullmatch(r"[0-9a-f]{64}", code["source_sha256"])
    packages = first.manifest["packages"]
    assert {"lightgbm", "numpy", "pandas", "polars", "scikit-learn", "dagster"} <= set(packages)
    assert packages == {name: importlib.metadata.version(name) for name in packages}


def test_metrics_have_every_promised_figure_and_its_baseline(first: Run) -> None:
    promised = {
        "train_accuracy", "val_accuracy", "test_accuracy", "precision_buy_val", "precision_buy_test",
        "val_mae", "val_rmse", "val_r2", "sharpe_ratio", "max_drawdown", "mean_return", "total_return",
        "test_mae", "test_rmse", "test_r2", "test_sharpe_ratio", "test_max_drawdown", "test_mean_return",
        "test_total_return", "val_majority_accuracy", "test_majority_accuracy", "buy_base_rate_val",
        "buy_base_rate_test", "val_log_loss", "test_log_loss", "val_brier_score", "test_brier_score",
        "val_brier_skill", "test_brier_skill", "val_calibration_error", "test_calibration_error",
    }  # fmt: skip
    for name in promised:
        assert isinstance(first.metrics[name], float), name
        # Six digits for people; the value itself has them all.
        assert first.metadata("metrics")[name] == pytest.approx(first.metrics[name], rel=1e-5)
    for name in ("val", "test"):
        report = first.metrics[f"classification_report_{name}"]
        assert {"BUY", "HOLD", "SELL"} <= set(report)
        assert set(report["BUY"]) == {"precision", "recall", "f1-score", "support"}
        assert np.array(first.metrics[f"confusion_matrix_{name}"]).shape == (3, 3)


@pytest.mark.parametrize(("asset", "name"), SETS.items())
def test_accuracy_is_that_of_the_model_text_in_the_bundle(
    first: Run, stored: dict[str, pl.DataFrame], asset: str, name: str
) -> None:
    panel = stored[asset].to_pandas()
    booster = lightgbm.Booster(model_file=str(first.bundle / "classifier.txt"))
    chances = booster.predict(panel[list(DEFAULT_INPUTS)].astype("float32"))
    most_probable = np.array(["BUY", "HOLD", "SELL"])[chances.argmax(1)]
    labels = panel["label"].astype(str).to_numpy()
    assert first.metrics[f"{name}_most_probable_accuracy"] == pytest.approx(
        (most_probable == labels).mean(), rel=1e-12
    )
    # On the sample no threshold is found: the most probable class is called.
    assert first.manifest["threshold"]["tau"] is None
    calls = most_probable
    assert first.metrics[f"{name}_accuracy"] == pytest.approx((calls == labels).mean(), rel=1e-12)
    bought = labels[calls == "BUY"] == "BUY"
    assert first.metrics[f"precision_buy_{name}"] == pytest.approx(bought.mean(), rel=1e-12)
    if name != "train":
        matrix = pd.crosstab(labels, calls).to_numpy().tolist()
        assert first.metrics[f"confusion_matrix_{name}"] == matrix


@pytest.mark.parametrize(("asset", "name"), list(SETS.items())[1:])
def test_forecast_errors_are_those_of_the_regressor_text_in_the_bundle(
    first: Run, stored: dict[str, pl.DataFrame], asset: str, name: str
) -> None:
    panel = stored[asset].to_pandas()
    booster = lightgbm.Booster(model_file=str(first.bundle / "regressor.txt"))
    error = panel["forward_return"] - booster.predict(panel[list(DEFAULT_INPUTS)].astype("float32"))
    assert first.metrics[f"{name}_mae"] == pytest.approx(error.abs().mean(), rel=1e-12)
    assert first.metrics[f"{name}_rmse"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-12)


def test_feature_importance_is_the_same_in_asset_and_bundle(first: Run, stored: dict[str, pl.DataFrame]) -> None:
    with (first.bundle / "feature_importance.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["feature"] for row in rows] == stored["feature_importance"]["feature"].to_list()
    assert {row["feature"] for row in rows} == set(DEFAULT_INPUTS)
    for model in MODELS:
        assert sum(float(row[f"{model}_gain"]) for row in rows) == pytest.approx(1.0)


# Run with nothing of this package at hand; prints what it saw.
PLAIN = """
import pickle, sys
import lightgbm, numpy, pandas, sklearn
bundle, panel = sys.argv[1:]
with open(f"{bundle}/classifier.pkl", "rb") as file:
    model = pickle.load(file)
rows = pandas.read_parquet(panel)[list(model.feature_names_in_)].astype("float32")
found = model.predict_proba(rows)
text = lightgbm.Booster(model_file=f"{bundle}/classifier.txt").predict(rows)
assert numpy.array_equal(found, text), abs(found - text).max()
assert found.shape == (len(rows), 3) and len(rows) > 500
assert set(model.predict(rows)) <= {"BUY", "HOLD", "SELL"}
with open(f"{bundle}/regressor.pkl", "rb") as file:
    regressor = pickle.load(file)
text = lightgbm.Booster(model_file=f"{bundle}/regressor.txt").predict(rows)
assert numpy.array_equal(regressor.predict(rows), text)
assert not [name for name in sys.modules if name.startswith("boursomatic")]
print(*model.feature_names_in_, *model.classes_)
"""


def test_the_pickle_opens_with_plain_libraries_and_predicts_what_the_text_predicts(first: Run) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLAIN, str(first.bundle), first.metadata("test_set")["path"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [*DEFAULT_INPUTS, "BUY", "HOLD", "SELL"]


@pytest.mark.parametrize("asset", ["labels", "features", "price_bars"])
def test_a_notebook_gets_pandas(first: Run, asset: str) -> None:
    with first.installation.entered(), open_instance_of(first.installation) as instance:
        panel = defs.load_asset_value(asset, instance=instance)
    assert isinstance(panel, pd.DataFrame)
    assert len(panel) == first.metadata(asset)["dagster/row_count"]
    assert list(panel.columns[:2]) == ["symbol", "session"]


def open_instance_of(installation: Installation) -> dg.DagsterInstance:
    return open_instance(installation.settings, installation.database())


def test_the_same_again_on_two_threads_gives_the_same_content(first: Run, second: Run) -> None:
    assert second.result.success
    # The report says which version it is about, and so does each recommendation.
    assert changed(first.versions, second.versions) == {"model_version", "report", "recommendations"}
    assert second.metrics == first.metrics
    assert second.row["params_hash"] == first.row["params_hash"]
    for name in ("classifier.txt", "regressor.txt", "feature_importance.csv", "metrics.json"):
        assert (second.bundle / name).read_bytes() == (first.bundle / name).read_bytes()
    assert second.manifest["training_data"] == first.manifest["training_data"]


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_the_same_again_writes_no_row_of_bars_or_features(rows_of_the_first: Rows, second: Run) -> None:
    for name in ("instruments", "price_bars", "features"):
        metadata = second.metadata(name)
        assert (metadata["rows_inserted"], metadata["rows_updated"]) == (0, 0)
    assert second.metadata("instruments")["rows_unchanged"] == 5
    assert second.metadata("price_bars")["rows_unchanged"] == 12_154
    # Features of a symbol whose bars are the same are not even computed.
    assert second.metadata("features")["rows_unchanged"] == 0
    assert second.metadata("features")["symbols_recomputed"] == 0
    assert second.metadata("features")["symbols_unchanged"] == 5
    after = second.installation.tables()
    for name in ("instruments", "price_bars", "features", "rejected_bars"):
        assert after[name] == rows_of_the_first[name]


def test_a_second_run_leaves_two_versions_and_makes_the_new_one_active(first: Run, second: Run) -> None:
    made = second.metadata("model_version")
    assert made["replaces"] == first.bundle.name
    rows = second.installation.ask("SELECT version, is_active FROM model_versions ORDER BY trained_at, created_at")
    assert rows == [(first.bundle.name, False), (second.bundle.name, True)]
    assert second.installation.bundles() == {first.bundle.name, second.bundle.name}
    second.installation.verify()


def test_after_an_unchanged_run_of_the_bars_alone_everything_is_shown_as_up_to_date(second: Run) -> None:
    # Dagster's own answer to "is it stale?", which the UI shows beside each box.
    again = second.installation.execute('key:"price_bars"')
    assert again.success
    with second.installation.entered(), open_instance_of(second.installation) as instance:
        resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
        statuses = {name: resolver.get_status(dg.AssetKey(name)) for name in ASSETS}
    assert statuses == dict.fromkeys(ASSETS, StaleStatus.FRESH)
