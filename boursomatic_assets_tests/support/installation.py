"""Installations of the product in which tests run it: a home, a database, and what is in them before and after."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from boursomatic_assets.cli import main
from boursomatic_assets.core.dataset.experiment import WalkForward
from boursomatic_assets.definitions import defs
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.bundles import open_bundle
from boursomatic_assets.storage.dagster.instance import open_instance, register_folds
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets.storage.server import embedded as server
from boursomatic_assets_tests.conftest import ONE_THREAD
from boursomatic_assets_tests.support.catalog import places_of, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boursomatic_assets.storage.postgres.model_table import ModelRow

PLAIN = str(Path(__file__).with_name("plain"))
BOURSOMATIC = str(Path(sys.executable).with_name("boursomatic"))
TABLES = ("instruments", "price_bars", "rejected_bars", "features", "model_versions", "recommendations")
SECONDS = 1800
# Record a version of what is stored, and make nothing else.
ALONE = dg.AssetSelection.assets("model_version")

_SETTINGS = ("DATABASE_URL", "ARTIFACTS_DIR")
_PREFIXES = ("BOURSOMATIC_", "DAGSTER_", "PG")
# Wide enough for tables and messages to keep their lines; English, as messages of the system are compared.
_TERMINAL = {"COLUMNS": "200", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """Everything it said, each space or line break one space, without the frames of boxes."""
        text = self.output + self.errors
        return " ".join("".join(" " if "\u2500" <= letter <= "\u257f" else letter for letter in text).split())


@dataclass(frozen=True)
class Installation:
    """A home folder with the database beside it: the embedded one, or one of a server that is named."""

    home: Path
    database_url: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        named = {} if self.database_url is None else {"DATABASE_URL": self.database_url}
        # Runs may read the prices that tests write or share.
        folders = {"BOURSOMATIC_PRICE_FOLDERS": os.sep}
        return {"BOURSOMATIC_HOME": str(self.home), **folders, **_TERMINAL, **ONE_THREAD, **named}

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.variables)

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    def database(self) -> Database:
        return Database(server.database_url(self.settings))

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command here: nothing of the developer's own settings is in it."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in _SETTINGS and not name.startswith(_PREFIXES)
        }
        return kept | self.variables | variables

    @contextmanager
    def entered(self, **variables: str) -> Iterator[None]:
        """This process as if it had been started here; afterwards as before."""
        before = dict(os.environ)
        inside = self.environment(variables)
        try:
            os.environ.clear()
            os.environ.update(inside)
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, *arguments: str, **variables: str) -> Outcome:
        """Run `boursomatic` with arguments and further variables in this process, which saves its start."""
        output, errors = io.StringIO(), io.StringIO()
        with (
            self.entered(**variables),
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            patch.setattr(sys, "argv", ["boursomatic", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, output.getvalue(), errors.getvalue())

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the console script in a process of its own, which sees no package that only tests install."""
        return subprocess.Popen(
            [BOURSOMATIC, *arguments],
            env=self.environment({"PYTHONPATH": PLAIN, **variables}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_apart(self, *arguments: str, **variables: str) -> Outcome:
        """Run the console script in a process of its own."""
        return outcome_of(self.start(*arguments, **variables))

    def execute(
        self,
        selection: dg.CoercibleToAssetSelection = "*",
        *,
        platform: Mapping[str, Any] | None = None,
        experiment: Mapping[str, Any] | None = None,
        fold: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a selection of assets and checks by Dagster's own interface. A failed run is returned, not raised.

        Where the walk-forward is among them, all its folds are run, or the one that is named.
        """
        job = dg.define_asset_job("chosen", selection=selection, executor_def=dg.in_process_executor)
        chosen = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("chosen")
        config = {
            "resources": {
                "platform": {"config": dict(platform or {})},
                "experiment": {"config": dict(experiment or {})},
            },
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        }
        trains_folds = dg.AssetKey("walk_forward") in chosen.asset_layer.selected_asset_keys
        folds = dict((experiment or {}).get("walk_forward", {})).get("folds", WalkForward().folds)
        with self.entered(), open_instance(self.settings, self.database()) as instance:
            return chosen.execute_in_process(
                run_config=config,
                instance=instance,
                raise_on_error=False,
                partition_key=fold,
                tags=register_folds(instance, folds) if trains_folds and not fold else None,
            )

    def versions(self) -> list[ModelRow]:
        """Recorded versions, the newest first."""
        return list_versions(self.database())

    def active(self) -> list[str]:
        return [row.version for row in self.versions() if row.is_active]

    def bundles(self) -> set[str]:
        """Names of the bundles that count as whole: those whose names begin without a dot."""
        return {path.name for path in self.artifacts.glob("models/*") if not path.name.startswith(".")}

    def files(self) -> dict[str, str]:
        """Every file of the artifacts, also one that is only half written, with its digest."""
        return {
            path.relative_to(self.artifacts).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.artifacts.rglob("*"))
            if path.is_file()
        }

    def tables(self) -> dict[str, dict[str, tuple[object, ...]]]:
        """Every row of the platform's tables, with the transaction that wrote it last."""
        return {table: places_of(self.database(), table) for table in TABLES}

    def ask(self, query: str) -> list[tuple[object, ...]]:
        return rows(self.database(), query)

    def verify(self) -> None:
        """What must hold whatever happened before: one active version, and every bundle and row whole."""
        recorded = self.versions()
        assert [row.is_active for row in recorded].count(True) == 1
        for row in recorded:
            open_bundle(row.model_path, row.manifest_sha256)
        for name in self.bundles():
            assert open_bundle(str(self.artifacts / "models" / name), None).manifest.version == name


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What a run recorded with an asset, as plain values."""
    (made,) = [
        event.materialization
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    ]
    return {name: entry.value for name, entry in made.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Each check that a run looked at, by its name."""
    return {made.check_name: made for made in result.get_asset_check_evaluations()}


def failed_in(result: dg.ExecuteInProcessResult) -> set[str]:
    """Blocking checks that do not hold; one that only warns stops nothing."""
    return {name for name, made in checks_of(result).items() if not made.passed and made.severity.value == "ERROR"}


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """Why a step failed, with the classes of the errors behind it."""
    (event,) = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    chain, error = [], event.step_failure_data.error
    while error is not None:
        chain.append(f"{error.cls_name}: {error.message}")
        error = error.cause
    if event.step_failure_data.user_failure_data is not None:
        chain.append(f"Failure: {event.step_failure_data.user_failure_data.description}")
    return "\n".join(chain)


def outcome_of(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a command to end."""
    output, errors = process.communicate(timeout=SECONDS)
    return Outcome(process.returncode, output, errors)


@contextmanager
def new_installation(database_url: str | None = None) -> Iterator[Installation]:
    """An empty home, its path short, as a socket's must be; whatever it started is stopped at the end."""
    installation = Installation(Path(tempfile.mkdtemp(prefix="bm-")), database_url)
    try:
        yield installation
    finally:
        server.stop(installation.settings)
        shutil.rmtree(installation.home, ignore_errors=True)
