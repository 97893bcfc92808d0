"""Which price sources there are, and the Protocol that each of them keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from boursomatic_assets.errors import UnknownProviderError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets.providers.sample import SampleProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from boursomatic_assets.settings import Settings


class Provider(Protocol):
    """A source of instruments and their daily bars."""

    @property
    def description(self) -> str:
        """What the bars are and where they come from, for messages and metadata."""

    def instruments(self) -> pl.DataFrame:
        """Instruments with the columns of `INSTRUMENT_SCHEMA`, a row per symbol."""

    def bars(self) -> pl.DataFrame:
        """Bars with the columns of `BAR_SCHEMA`, adjusted where the source can, unchecked and in any order."""


_REGISTRY: dict[str, Callable[[Settings], Provider]] = {
    "files": FilesProvider.from_settings,
    "sample": SampleProvider.from_settings,
}
PROVIDER_NAMES = tuple(_REGISTRY)


def provider_for(settings: Settings) -> Provider:
    """Build the provider that the settings name.

    Raises
    ------
    UnknownProviderError
        If there is none of that name.
    """
    if settings.provider not in _REGISTRY:
        message = (
            f"there is no price provider {settings.provider!r}; there are: {', '.join(PROVIDER_NAMES)}.\n"
            "Example: boursomatic materialize --provider files --path prices.csv"
        )
        raise UnknownProviderError(message)
    return _REGISTRY[settings.provider](settings)
