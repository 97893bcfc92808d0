"""Sessions after a training, in the graph: quiet ones, wrong ones, and versions of which drift cannot be told."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from boursomatic_assets.automation.sensors import retrain_when_drifted
from boursomatic_assets.core.drift.watch import DRIFT_SCHEMA
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.registry.bundle import MANIFEST, REFERENCE, sha256, strict_json
from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.drifting import sessions_of
from boursomatic_assets_tests.support.installation import metadata_of, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

DRIFT = dg.AssetSelection.assets("drift")
TRAINED = dg.AssetSelection.assets("model_version").upstream()
# With their checks: without these nothing vouches for the features.
UPDATED = dg.AssetSelection.assets("instruments", "price_bars", "features") | DRIFT
NEW, SYMBOLS = 5, 30
# Drawn once: thirty instruments, and 705 sessions of which nothing distinguishes the last five.
BARS = simulate_bars(SimulatedMarket(SYMBOLS, 700 + NEW), 0)
SESSIONS = sessions_of(BARS)
FRESH = pl.col("session") >= SESSIONS[-NEW]


@dataclass(frozen=True)
class Prices:
    """An installation, and the file that it reads its prices from."""

    installation: Installation
    path: Path

    def bring(self, bars: pl.DataFrame, selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        """Write the bars where they were before, and run a part of the graph on them."""
        bars.write_parquet(self.path)
        result = self.installation.execute(
            selection, platform={"provider": "files", "provider_path": str(self.path)}
        )
        assert result.success
        return result


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prices]:
    """A version that was trained on the first 700 sessions."""
    with new_installation() as installation:
        assert installation.run("db", "upgrade").code == 0
        made = Prices(installation, tmp_path_factory.mktemp("prices") / "prices.parquet")
        made.bring(BARS.filter(~FRESH), TRAINED)
        yield made


def told(installation: Installation) -> dict[str, Any]:
    """What drift says now, by a run of it alone."""
    result = installation.execute(DRIFT)
    assert result.success
    return metadata_of(result, "drift")


def tick(installation: Installation, cursor: str) -> dg.RunRequest | str:
    """What the sensor asks for, or why it asks for nothing."""
    with (
        installation.entered(),
        open_instance(installation.settings, installation.database()) as instance,
        dg.build_sensor_context(instance, cursor=cursor) as context,
    ):
        found = retrain_when_drifted.evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else str(found.skip_message)


def test_five_quiet_sessions_raise_no_alarm_and_start_nothing(prices: Prices) -> None:
    before = told(prices.installation)
    metadata = metadata_of(prices.bring(BARS, UPDATED), "drift")
    assert (metadata["alarmed"], metadata["newest_session"]) == (False, str(SESSIONS[-1]))
    assert metadata["windows"] == before["windows"] + NEW
    assert metadata["alarm_episodes"] == before["alarm_episodes"]
    assert metadata["cause"].startswith("No alarm: the most unusual is ")
    found = tick(prices.installation, "{}")
    assert isinstance(found, str)
    assert metadata["version"] in found or metadata["cause"] in found


def test_volumes_in_another_unit_are_drift_within_five_sessions_and_ask_for_a_training(prices: Prices) -> None:
    factor = pl.when(FRESH).then(100.0).otherwise(1.0)
    metadata = metadata_of(prices.bring(BARS.with_columns(pl.col("volume") * factor), UPDATED), "drift")
    assert metadata["alarmed"]
    assert metadata["alarmed_since"] in [str(session) for session in SESSIONS[-NEW:]]
    assert metadata["alarmed_until"] == metadata["newest_session"] == str(SESSIONS[-1])
    assert metadata["cause"] == metadata["alarm"]
    assert metadata["cause"].startswith("volume_zscore is not what it was in the sessions before: ")
    last = metadata["episodes"].splitlines()[-1]
    assert re.fullmatch(rf"- {metadata['alarmed_since']} to {SESSIONS[-1]}: (1 window|\d windows)", last)
    ((encoded,),) = [re.findall(r"base64,([A-Za-z0-9+/=]+)\)", metadata["picture"])]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.format == "PNG"

    request = tick(prices.installation, "{}")
    assert isinstance(request, dg.RunRequest), request
    assert request.job_name in {None, "retrain"}
    assert request.tags["boursomatic/cause"] == "drift"
    expected = f"Drift since {metadata['alarmed_since']}: {metadata['alarm']}"
    assert request.tags["boursomatic/why"] == expected


def test_a_training_that_knows_of_the_drift_settles_it(prices: Prices) -> None:
    result = prices.installation.execute(TRAINED - dg.AssetSelection.assets("instruments", "price_bars"))
    assert result.success
    metadata = told(prices.installation)
    assert metadata["alarmed_since"] in [str(session) for session in SESSIONS[-NEW:]]
    found = tick(prices.installation, "{}")
    assert isinstance(found, str), found
    # The newest session that it knew is the last there is.
    assert f"was trained since then, on sessions up to {SESSIONS[-1]}." in found


@contextmanager
def changed(installation: Installation, statement: str) -> Iterator[None]:
    """The row of the active version changed for a while."""
    (active,) = [row for row in installation.versions() if row.is_active]
    run(installation.database(), f"UPDATE model_versions SET {statement} WHERE is_active")  # noqa: S608
    try:
        yield
    finally:
        digest, path = active.manifest_sha256, active.model_path
        run(
            installation.database(),
            f"UPDATE model_versions SET manifest_sha256 = '{digest}', model_path = '{path}' WHERE is_active",  # noqa: S608
        )


def untold(metadata: dict[str, Any], installation: Installation) -> str:
    """Why nothing can be told, where nothing is."""
    assert (metadata["alarmed"], metadata["windows"], metadata["dagster/row_count"]) == (False, 0, 0)
    assert metadata["version"] == installation.active()[0]
    stored = pl.read_parquet(metadata["path"])
    assert (stored.height, stored.schema) == (0, DRIFT_SCHEMA)
    found = tick(installation, "{}")
    assert isinstance(found, str)
    assert metadata["cause"] in found
    return str(metadata["cause"])


def test_a_version_without_a_reference_says_so_and_raises_no_alarm(prices: Prices, tmp_path: Path) -> None:
    installation = prices.installation
    (active,) = [row for row in installation.versions() if row.is_active]
    # As versions were recorded before they kept a reference.
    old = shutil.copytree(UPath(active.model_path).path, tmp_path / "bundle")
    Path(old / REFERENCE).unlink()
    manifest = json.loads((old / MANIFEST).read_bytes())
    del manifest["files"][REFERENCE]
    content = strict_json(manifest)
    (old / MANIFEST).write_bytes(content)
    with changed(installation, f"manifest_sha256 = '{sha256(content)}', model_path = '{old}'"):
        reason = untold(told(installation), installation)
    assert reason == (
        f"Drift cannot be told: version {active.version} was recorded before versions kept a reference; the next "
        "training brings one."
    )


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("manifest_sha256 = NULL", "was recorded by another program, without a digest of its manifest"),
        ("model_path = '/nowhere/models/none'", "the bundle of the active model version"),
        ("is_active = false", "no model version is active"),
    ],
)
def test_a_version_that_nobody_can_open_is_a_clear_error(prices: Prices, statement: str, message: str) -> None:
    installation, before = prices.installation, told(prices.installation)
    active = installation.active()[0]
    try:
        with changed(installation, statement):
            result = installation.execute(DRIFT)
    finally:
        run(installation.database(), f"UPDATE model_versions SET is_active = true WHERE version = '{active}'")  # noqa: S608
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.error is not None
    chain = f"{failure.error.message} {failure.error.cause.message if failure.error.cause else ''}"
    assert message in chain
    assert "boursomatic materialize" in chain
    # What was told before is still there.
    assert pl.read_parquet(before["path"]).height == before["dagster/row_count"]


def test_too_few_sessions_since_the_training_panel_are_no_fault(prices: Prices) -> None:
    installation, kept = prices.installation, SESSIONS[-3]
    run(installation.database(), f"DELETE FROM features WHERE ts < '{kept}'")  # noqa: S608
    reason = untold(told(installation), installation)
    compared = "drift compares the newest 5 sessions with the 20 before them; found 3 full sessions."
    assert reason == f"Drift cannot be told yet: {compared}"
    run(installation.database(), "DELETE FROM features")
    assert "found 0 full sessions" in untold(told(installation), installation)
