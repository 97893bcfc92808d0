from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from boursomatic_assets.core.market.bars import INSTRUMENT_SCHEMA
from boursomatic_assets.errors import ConfigurationError, UnknownProviderError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.registry import PROVIDER_NAMES, provider_for
from boursomatic_assets.providers.sample import SampleProvider
from boursomatic_assets.settings import Settings

KEYS = {"BOURSOMATIC_EODHD_KEY": "sesame", "BOURSOMATIC_TIINGO_KEY": "sesame"}


def settings(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def test_without_a_request_the_sample_is_the_source() -> None:
    assert isinstance(provider_for(settings()), SampleProvider)


def test_the_environment_chooses_the_source() -> None:
    assert isinstance(provider_for(settings(BOURSOMATIC_PROVIDER="sample")), SampleProvider)
    files = provider_for(settings(BOURSOMATIC_PROVIDER="files", BOURSOMATIC_PROVIDER_PATH="/prices/daily.csv"))
    assert files == FilesProvider(Path("/prices/daily.csv"))
    assert files.description == "files at /prices/daily.csv"


def test_a_path_may_begin_at_the_persons_home() -> None:
    files = provider_for(settings(BOURSOMATIC_PROVIDER="files", BOURSOMATIC_PROVIDER_PATH="~/daily.csv"))
    assert files == FilesProvider(Path.home() / "daily.csv")


def test_an_unknown_source_is_refused_with_the_known_ones_and_an_example() -> None:
    with pytest.raises(UnknownProviderError, match="'gazette'") as caught:
        provider_for(settings(BOURSOMATIC_PROVIDER="gazette"))
    assert "database, eodhd, files, sample, stooq, tiingo, yahoo" in str(caught.value)
    assert "boursomatic materialize --provider" in str(caught.value)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("database", False),
        ("files", False),
        ("sample", False),
        ("stooq", True),
        ("yahoo", True),
        ("eodhd", True),
        ("tiingo", True),
    ],
)
def test_only_network_sources_ask_which_bars_are_wanted(name: str, *, asks: bool) -> None:
    provider = provider_for(settings(BOURSOMATIC_PROVIDER=name, BOURSOMATIC_PROVIDER_PATH="/prices", **KEYS))
    assert provider.fetches_by_symbol is asks


def test_of_bars_that_another_program_keeps_nothing_is_delivered() -> None:
    provider = provider_for(settings(BOURSOMATIC_PROVIDER="database"))
    assert provider.instruments().schema == pl.Schema(INSTRUMENT_SCHEMA)
    assert provider.instruments().is_empty()
    assert list(provider.batches()) == []


def test_files_without_a_path_are_refused_with_an_example() -> None:
    with pytest.raises(ConfigurationError, match=r"--path prices\.csv"):
        provider_for(settings(BOURSOMATIC_PROVIDER="files"))


@pytest.mark.parametrize("name", PROVIDER_NAMES)
def test_every_registered_source_can_be_built_and_says_what_it_is(name: str) -> None:
    provider = provider_for(settings(BOURSOMATIC_PROVIDER=name, BOURSOMATIC_PROVIDER_PATH="/prices", **KEYS))
    assert provider.description


@pytest.mark.parametrize("name", ["eodhd", "tiingo"])
def test_a_vendor_without_its_key_names_the_variable(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} needs an API key: set BOURSOMATIC_{name.upper()}_KEY"):
        provider_for(settings(BOURSOMATIC_PROVIDER=name))
