"""Registry of the price sources, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boursomatic_assets.errors import UnknownProviderError
from boursomatic_assets.providers.database import DatabaseProvider
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.sample import SampleProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from boursomatic_assets.providers.source import Provider
    from boursomatic_assets.settings import Settings


def _yahoo(settings: Settings) -> Provider:
    from boursomatic_assets.providers.yahoo import yahoo_provider

    return yahoo_provider(settings)


def _stooq(settings: Settings) -> Provider:
    from boursomatic_assets.providers.stooq import stooq_provider

    return stooq_provider(settings)


def _eodhd(settings: Settings) -> Provider:
    from boursomatic_assets.providers.eodhd import eodhd_provider

    return eodhd_provider(settings)


def _tiingo(settings: Settings) -> Provider:
    from boursomatic_assets.providers.tiingo import tiingo_provider

    return tiingo_provider(settings)


_REGISTRY: dict[str, Callable[[Settings], Provider]] = {
    "database": DatabaseProvider.from_settings,
    "eodhd": _eodhd,
    "files": FilesProvider.from_settings,
    "sample": SampleProvider.from_settings,
    "stooq": _stooq,
    "tiingo": _tiingo,
    "yahoo": _yahoo,
}
PROVIDER_NAMES = tuple(_REGISTRY)


def delivers_new_sessions(settings: Settings) -> bool:
    """Whether the source in the settings brings new bars day by day; a file does not."""
    return settings.provider == "database" or provider_for(settings).fetches_by_symbol


def provider_for(settings: Settings) -> Provider:
    """Create the provider that the settings name; raises UnknownProviderError for an unknown name."""
    if settings.provider not in _REGISTRY:
        message = (
            f"there is no price provider {settings.provider!r}; there are: {', '.join(PROVIDER_NAMES)}.\n"
            "Example: boursomatic materialize --provider files --path prices.csv"
        )
        raise UnknownProviderError(message)
    return _REGISTRY[settings.provider](settings)
