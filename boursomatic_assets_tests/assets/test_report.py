"""The asset `report`: written whole, kept per version, honest about a walk-forward that is missing or outdated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from upath import UPath

from boursomatic_assets.assets.report import report
from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment
from boursomatic_assets.core.dataset.labels import LABEL_TYPE
from boursomatic_assets.core.models.training import FittedModel, feature_importance, fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import strict_json
from boursomatic_assets.storage.artifacts.files import write_whole
from boursomatic_assets.storage.artifacts.stamps import stamp_for
from boursomatic_assets.storage.dagster.recorded_files import record_file
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets_tests.support.synthetic_report import evaluation_of, walk_forward_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FEW = BoosterParameters(n_estimators=3)
SMALL = Experiment(classifier=FEW, regressor=FEW)
VERSION = "20240301T183000Z-1a2b3c"
STAMP = stamp_for("walk_forward_summary", Experiment())


def rows_of(count: int = 120) -> pl.DataFrame:
    random = np.random.default_rng(11)
    returns = random.normal(0, 0.05, count)
    labels = np.where(returns > 0.03, "BUY", np.where(returns < -0.03, "SELL", "HOLD"))
    features = {name: random.normal(size=count) for name in SMALL.features}
    return pl.DataFrame(
        {**features, "forward_return": returns, "label": labels}, schema_overrides={"label": LABEL_TYPE}
    )


ROWS = rows_of()
CLASSIFIER, REGRESSOR = fit_classifier(ROWS, SMALL, 1), fit_regressor(ROWS, SMALL, 1)


@dg.asset
def evaluation() -> dict[str, Any]:
    return evaluation_of(sessions=40, symbols=3)


@dg.asset
def labels() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"first_session": "2010-01-04", "last_session": "2018-01-19"})


@dg.asset
def classifier() -> FittedModel:
    return CLASSIFIER


@dg.asset
def regressor() -> FittedModel:
    return REGRESSOR


@dg.asset(name="feature_importance")
def importance() -> pl.DataFrame:
    return feature_importance(CLASSIFIER, REGRESSOR)


@dg.asset(name="test_set")
def held_out() -> pl.DataFrame:
    return ROWS


@dg.asset(deps=["classifier", "regressor"])
def model_version() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"version": VERSION})


@dg.asset_check(asset=labels, blocking=True)
def labels_end_after_their_session() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


MODELS = [classifier, regressor, importance, held_out, evaluation, labels_end_after_their_session, labels]


class Desk:
    """A place where reports are written, with what they are written from."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        self.instance, self.folder = instance, folder
        self.values = dg.mem_io_manager

    def run(self, *assets: Any, **experiment: Any) -> dict[str, Any]:  # noqa: ANN401
        result = dg.materialize(
            [*assets],
            instance=self.instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            resources={
                "platform": PlatformResource(artifacts_dir=str(self.folder)),
                "experiment": ExperimentResource(**experiment),
                "io_manager": self.values,
            },
        )
        made = {made.asset_key.to_user_string(): made for made in _materializations(result)}
        return {name: entry.value for name, entry in made["report"].metadata.items()}

    def store_walk_forward(self, content: bytes) -> None:
        self.store("walk_forward_summary", "assets/walk_forward_summary.json", content)

    def store_proofs(self, content: bytes) -> None:
        self.store("proofs", "proofs.json", content)

    def store(self, asset: str, name: str, content: bytes) -> None:
        """Store a file and record it."""
        path = UPath(str(self.folder)) / name
        write_whole(path, content)
        record_file(self.instance, asset, path, content)

    def page(self) -> str:
        return (self.folder / "reports" / "report.html").read_text(encoding="utf-8")


def _materializations(result: dg.ExecuteInProcessResult) -> Iterator[dg.AssetMaterialization]:
    for event in result.all_events:
        if event.is_step_materialization:
            yield event.materialization


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Desk(instance, tmp_path)


def test_a_report_is_written_and_linked_to(desk: Desk) -> None:
    metadata = desk.run(*MODELS, model_version, report)
    kept = desk.folder / "reports" / VERSION / "report.html"
    assert metadata["path"] == str(kept)
    assert metadata["open"] == kept.as_uri()
    assert metadata["version"] == VERSION
    assert metadata["bytes"] == kept.stat().st_size
    assert kept.read_text(encoding="utf-8") == desk.page()
    assert metadata["conclusion"] == evaluation_of(40, 3)["verdict"]["sentence"]
    assert metadata["concluded_from"] == "test set"
    assert sorted(path.name for path in desk.folder.rglob("*") if path.is_file()) == ["report.html"] * 2


def test_the_page_knows_prices_checks_and_contributions(desk: Desk) -> None:
    desk.run(*MODELS, model_version, report)
    words = " ".join(re.sub(r"<[^>]+>", " ", desk.page()).split())
    assert "2010-01-04 to 2018-01-19" in words
    assert re.search(r"labels labels end after their session passed \d{4}-\d\d-\d\d \d\d:\d\d", words)
    assert "features the future is not read never evaluated" in words
    assert "over 120 rows of the test set" in words
    assert SMALL.params_hash not in words
    assert Experiment().params_hash in words


def test_models_that_no_version_was_recorded_of_have_none(desk: Desk) -> None:
    assert desk.run(*MODELS, report)["version"] == "none recorded of these models"
    assert not list(desk.folder.glob("reports/*/report.html"))


def test_models_made_since_are_not_the_versions(desk: Desk) -> None:
    desk.run(*MODELS, model_version, report)
    assert desk.run(*MODELS, report)["version"] == "none recorded of these models"


def test_without_a_walk_forward_the_report_says_which_command_makes_one(desk: Desk) -> None:
    metadata = desk.run(*MODELS, report)
    assert metadata["walk_forward"].startswith("The walk-forward was not made yet")
    assert "boursomatic materialize --select walk_forward+" in desk.page()


def test_a_walk_forward_of_this_experiment_comes_first(desk: Desk) -> None:
    desk.store_walk_forward(strict_json({"stamp": STAMP, "value": walk_forward_of(sessions=80)}))
    metadata = desk.run(*MODELS, report)
    assert metadata["concluded_from"] == "walk-forward"
    assert "walk_forward" not in metadata
    assert desk.page().index('id="walk_forward"') < desk.page().index('id="test_set"')


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (strict_json({"stamp": {"experiment": {"horizon": 5}}, "value": {}}), "was made under another experiment"),
        (b'{"stamp": {"exper', "is damaged"),
        (b"[]", "is damaged"),
    ],
    ids=["outdated", "cut off", "of another shape"],
)
def test_a_walk_forward_that_is_outdated_or_damaged_is_left_out(desk: Desk, content: bytes, reason: str) -> None:
    desk.store_walk_forward(content)
    metadata = desk.run(*MODELS, report)
    assert metadata["walk_forward"].startswith(f"The walk-forward {reason}")
    assert 'id="walk_forward"' not in desk.page()


@pytest.mark.parametrize("content", [b"{", b"[1]"], ids=["cut off", "of another shape"])
def test_proofs_that_cannot_be_read_are_left_out(desk: Desk, content: bytes) -> None:
    desk.store_proofs(content)
    desk.run(*MODELS, report)
    assert "boursomatic bench --proofs" in desk.page()


PROOFS = b'{"null": {"panels": 200}, "measured": "2024-02-27"}'


def test_proofs_that_were_run_are_shown(desk: Desk) -> None:
    desk.store_proofs(PROOFS)
    desk.run(*MODELS, report)
    assert "measured on 2024-02-27" in desk.page()
    assert "boursomatic bench --proofs" not in desk.page()


@pytest.mark.parametrize("recorded", [True, False])
def test_figures_that_were_altered_or_never_recorded_are_left_out_of_a_report(desk: Desk, recorded: bool) -> None:  # noqa: FBT001
    if recorded:
        desk.store_proofs(PROOFS.replace(b"200", b"201"))
        desk.store_walk_forward(strict_json({"stamp": STAMP, "value": walk_forward_of(sessions=79)}))
    (desk.folder / "assets").mkdir(exist_ok=True)
    (desk.folder / "proofs.json").write_bytes(PROOFS)
    forged = strict_json({"stamp": STAMP, "value": walk_forward_of(sessions=80)})
    (desk.folder / "assets" / "walk_forward_summary.json").write_bytes(forged)
    reason = "is damaged or was altered" if recorded else "was not made yet"
    assert desk.run(*MODELS, report)["walk_forward"].startswith(f"The walk-forward {reason}")
    assert 'id="walk_forward"' not in desk.page()
    assert "boursomatic bench --proofs" in desk.page()
    assert "measured on 2024-02-27" not in desk.page()
