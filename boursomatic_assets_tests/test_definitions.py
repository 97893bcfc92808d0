"""The code location as Dagster loads it, and promises derived from it so that what is forgotten fails here."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml

import boursomatic_assets
from boursomatic_assets.assets.required_checks import REQUIRED_CHECKS
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.definitions import MODULES, defs
from boursomatic_assets.storage.dagster.resources import ExperimentResource
from boursomatic_assets_tests.support.installation import PLAIN

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = Path(boursomatic_assets.__file__).parent
LOCATION = "boursomatic_assets.definitions"

BOOKS_FROM = {"predictions", "threshold", "baselines", "labels", "price_bars"}
# The picture of the design, read from left to right.
PARENTS: dict[str, set[str]] = {
    "instruments": set(),
    "price_bars": {"instruments"},
    "features": {"price_bars"},
    "labels": {"features", "price_bars"},
    "train_set": {"labels"},
    "validation_set": {"labels"},
    "test_set": {"labels"},
    "classifier": {"train_set"},
    "regressor": {"train_set"},
    # Judged beside the sets: rows whose instrument ended within the horizon, which only the labels hold.
    "predictions": {"classifier", "regressor", "validation_set", "test_set", "labels"},
    "threshold": {"predictions"},
    "metrics": {"predictions", "threshold", "classifier", "train_set", "labels", "price_bars"},
    "feature_importance": {"classifier", "regressor"},
    "baselines": {"train_set", "validation_set", "test_set", "labels", "price_bars"},
    "portfolio": BOOKS_FROM,
    "positions": BOOKS_FROM,
    "trades": BOOKS_FROM,
    "evaluation": {"predictions", "threshold", "baselines", "portfolio", "labels", "price_bars"},
    "walk_forward": {"labels", "price_bars"},
    "walk_forward_summary": {"walk_forward", "labels", "price_bars"},
    "report": {
        "evaluation", "feature_importance", "classifier", "model_version", "test_set", "walk_forward_summary",
    },
    "model_version": {
        "labels", "classifier", "regressor", "predictions", "threshold", "metrics", "feature_importance",
        "price_bars",
    },
    "recommendations": {"model_version", "features", "price_bars", "instruments"},
    "outcomes": {"recommendations", "price_bars"},
    "drift": {"features", "model_version"},
}  # fmt: skip
GROUPS = [
    "market_data", "features", "labels", "splits", "models", "predictions", "baselines", "metrics", "model_version",
    "portfolio", "evaluation", "walk_forward", "report", "recommendations", "outcomes", "drift",
]  # fmt: skip
# What is found out about a version, or made with it, and decides nothing about it.
BESIDE_THE_VERSION = {
    "baselines", "portfolio", "positions", "trades", "evaluation", "walk_forward", "walk_forward_summary", "report",
    "recommendations", "outcomes", "drift",
}  # fmt: skip


def names(keys: set[dg.AssetKey]) -> set[str]:
    return {key.to_user_string() for key in keys}


def test_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs)


def test_workspace_and_project_file_name_the_module_of_the_definitions() -> None:
    (entry,) = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"]["module_name"] == LOCATION
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["code_location_target_module"] == LOCATION
    found = [name for name, value in vars(importlib.import_module(LOCATION)).items() if value is defs]
    assert found == ["defs"]


def test_definitions_include_every_module_of_assets() -> None:
    # The list of required checks names checks, and makes none.
    files = {path.stem for path in (PACKAGE / "assets").glob("*.py")} - {"__init__", "required_checks"}
    assert {module.__name__ for module in MODULES} == {f"boursomatic_assets.assets.{name}" for name in files}


def test_lineage_is_the_designed_one() -> None:
    graph = defs.resolve_asset_graph()
    found = {key.to_user_string(): names(graph.get(key).parent_keys) for key in graph.get_all_asset_keys()}
    assert found == PARENTS


def test_groups_follow_the_lineage() -> None:
    graph = defs.resolve_asset_graph()
    groups = {key: graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert set(groups.values()) == set(GROUPS)
    for key, group in groups.items():
        for parent in graph.get(key).parent_keys:
            assert GROUPS.index(groups[parent]) <= GROUPS.index(group)


@pytest.mark.parametrize("asset", PARENTS)
def test_code_references_lead_to_each_asset(asset: str) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    (reference,) = node.metadata["dagster/code_references"].code_references
    path = Path(reference.file_path)
    assert path == PACKAGE / "assets" / f"{node.group_name}.py"
    # The three sets are one function, and so are the three tables of the books.
    function = {"splits": "splits", "portfolio": "portfolios"}.get(node.group_name, asset)
    lines = path.read_text().splitlines()
    block = inspect.getblock([line + "\n" for line in lines[reference.line_number - 1 :]])
    assert block[0].startswith(("@dg.asset(", "@dg.multi_asset("))
    assert any(line.startswith(f"def {function}(") for line in block)


def test_required_checks_are_the_blocking_ones_before_a_version() -> None:
    graph = defs.resolve_asset_graph()
    upstream = graph.get_ancestor_asset_keys(dg.AssetKey("model_version"))
    assert names(upstream) == set(PARENTS) - BESIDE_THE_VERSION - {"model_version"}
    blocking = {key for key in graph.asset_check_keys if key.asset_key in upstream and graph.get(key).blocking}
    assert set(REQUIRED_CHECKS) == blocking
    assert len(REQUIRED_CHECKS) == len(blocking)


def test_blocking_checks_guard_every_asset_before_a_version() -> None:
    # The check of the sets belongs to the training set, and reads all three; a ranking corrupts nothing after it.
    graph = defs.resolve_asset_graph()
    guarded = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    unguarded = {"instruments", "validation_set", "test_set", "feature_importance"}
    assert guarded - BESIDE_THE_VERSION == set(PARENTS) - BESIDE_THE_VERSION - unguarded
    assert guarded & BESIDE_THE_VERSION == {
        "portfolio", "evaluation", "walk_forward_summary", "recommendations", "outcomes",
    }  # fmt: skip


def test_checks_have_descriptions() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert graph.get(key).description, key.name


def test_experiment_resource_defaults_to_the_reference() -> None:
    assert ExperimentResource().value() == Experiment()


def test_launchpad_offers_every_experiment_field_described() -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    resources = job.run_config_schema.config_type.fields["resources"].config_type.fields
    fields = resources["experiment"].config_type.fields["config"].config_type.fields
    assert set(fields) == set(Experiment.model_fields)
    assert [name for name, field in fields.items() if not field.description] == []
    for model in ("classifier", "regressor"):
        nested = fields[model].config_type.fields
        assert set(nested) == set(Experiment.model_fields[model].default.model_dump())


def test_launchpad_offers_only_experiment_and_platform() -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    resources = job.run_config_schema.config_type.fields["resources"].config_type.fields
    # Dagster always adds an io_manager of its own, which no asset here uses.
    editable = {
        name
        for name, resource in resources.items()
        if name != "io_manager"
        and "config" in resource.config_type.fields
        and resource.config_type.fields["config"].config_type.fields
    }
    assert editable == {"experiment", "platform"}


# Libraries that only some steps or commands use.
HEAVY = (
    "pandas", "scipy", "lightgbm", "sklearn", "matplotlib", "PIL", "pyarrow", "exchange_calendars", "alembic",
    "adbc_driver_manager", "psycopg2", "yfinance", "httpx", "requests", "rich.progress",
)  # fmt: skip


def test_test_only_packages_are_hidden_from_started_commands() -> None:
    code = "import importlib.util as u, sys; print(*[name for name in sys.argv[1:] if u.find_spec(name)])"
    names = ("arch", "bokeh_sampledata", "pyarrow", "skfolio", "statsmodels", "pandas")
    ended = subprocess.run(
        [sys.executable, "-c", code, *names],
        env={**os.environ, "PYTHONPATH": PLAIN},
        capture_output=True,
        check=True,
    )
    assert ended.stdout.split() == [b"pandas"]


def test_importing_the_code_location_loads_no_heavy_library() -> None:
    code = (
        "import sys, gc, boursomatic_assets.definitions\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])\n"
        "print(gc.isenabled())"
    )
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    loaded, collects = ended.stdout.split("\n")[:2]
    assert loaded.split() == []
    # The import pauses the collector.
    assert collects == "True"
