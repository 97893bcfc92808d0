"""Which files the configuration of a run may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.registry import provider_for
from boursomatic_assets.storage.dagster.resources import PlatformResource

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prices may come from `allowed`, and from the file that the environment names."""
    (tmp_path / "allowed").mkdir()
    monkeypatch.setenv("BOURSOMATIC_PRICE_FOLDERS", str(tmp_path / "allowed"))
    monkeypatch.setenv("BOURSOMATIC_PROVIDER_PATH", str(tmp_path / "own.csv"))
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    return tmp_path


@pytest.mark.parametrize("path", ["allowed", "allowed/deep/prices.csv", "own.csv", "allowed/../own.csv"])
def test_a_run_may_name_prices_below_configured_folders(folders: Path, path: str) -> None:
    assert PlatformResource(provider_path=f"{folders}/{path}").settings().provider_path == f"{folders}/{path}"


@pytest.mark.parametrize(
    "path", ["secret.csv", "allowed.csv", "allowed/../secret.csv", "allowed/link/secret.csv", "own.csv2", ""]
)
def test_a_run_may_not_name_other_files_as_prices(folders: Path, path: str) -> None:
    (folders / "allowed" / "link").symlink_to(folders)
    with pytest.raises(ConfigurationError, match="BOURSOMATIC_PRICE_FOLDERS"):
        PlatformResource(provider_path=f"{folders}/{path}").settings()


def test_prices_may_lie_in_the_home_by_default(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOURSOMATIC_PRICE_FOLDERS")
    monkeypatch.setenv("BOURSOMATIC_HOME", str(folders))
    assert PlatformResource(provider_path=f"{folders}/prices/a.csv").settings().provider == "sample"
    with pytest.raises(ConfigurationError):
        PlatformResource(provider_path=f"{folders}/postgres/a.csv").settings()


def test_links_of_a_run_lead_no_further_than_its_prices_may_lie(folders: Path) -> None:
    run = PlatformResource(provider="files", provider_path=f"{folders}/allowed").settings()
    assert run.link_folders == (folders / "allowed", folders / "own.csv")
    provider = provider_for(run)
    assert isinstance(provider, FilesProvider)
    assert provider.link_folders == run.link_folders
    # The user's own path may hold links to anywhere.
    assert PlatformResource(provider="files").settings().link_folders is None


@pytest.mark.parametrize("place", ["artifacts", "artifacts/", "artifacts/other"])
def test_a_run_may_write_below_the_artifacts_folder(folders: Path, place: str) -> None:
    assert PlatformResource(artifacts_dir=f"{folders}/{place}").settings()


@pytest.mark.parametrize("place", ["", "artifacts2", "artifacts/../other", "artifacts/.."])
def test_a_run_may_not_write_artifacts_elsewhere(folders: Path, place: str) -> None:
    with pytest.raises(ConfigurationError, match="ARTIFACTS_DIR"):
        PlatformResource(artifacts_dir=f"{folders}/{place}").settings()


def test_artifacts_at_a_url_stay_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS_DIR", "s3://bucket/a")
    assert PlatformResource(artifacts_dir="s3://bucket/a/b").settings().artifacts_dir == "s3://bucket/a/b"
    for place in ("s3://bucket/ab", "s3://other/a", "file:///etc"):
        with pytest.raises(ConfigurationError):
            PlatformResource(artifacts_dir=place).settings()
