"""The environment as typed settings, read when asked for and never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PROVIDER = "sample"
DEFAULT_MAX_REJECTED_SHARE = 0.01


@dataclass(frozen=True)
class Settings:
    """Where things are and which source feeds them.

    Attributes
    ----------
    home : Path
        `BOURSOMATIC_HOME`: holds `postgres/`, `artifacts/` and `dagster/`.
    database_url : str or None
        `DATABASE_URL`: a PostgreSQL server; None means the embedded one under `home`. Kept out of
        `repr`, since it may hold a password.
    artifacts_dir : str
        `ARTIFACTS_DIR`: a folder or any fsspec URL.
    provider : str
        `BOURSOMATIC_PROVIDER`: name of the price source.
    provider_path : str or None
        `BOURSOMATIC_PROVIDER_PATH`: file or folder for providers that read one.
    max_rejected_share : float
        `BOURSOMATIC_MAX_REJECTED_SHARE`: the share of bars, as a fraction, that may break the contract.
    threads : int
        `BOURSOMATIC_THREADS`: threads for training; 0 means all cores. Never changes a result.
    """

    home: Path
    database_url: str | None = field(repr=False)
    artifacts_dir: str
    provider: str
    provider_path: str | None
    max_rejected_share: float
    threads: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Parameters
        ----------
        environ : mapping of str to str, optional
            Stands in for `os.environ`.

        Raises
        ------
        ConfigurationError
            If a variable cannot be read as its type.
        """
        values = os.environ if environ is None else environ
        home = _folder("BOURSOMATIC_HOME", values.get("BOURSOMATIC_HOME") or "~/.boursomatic")
        return cls(
            home=home,
            database_url=values.get("DATABASE_URL") or None,
            artifacts_dir=_place(values.get("ARTIFACTS_DIR") or str(home / "artifacts")),
            provider=values.get("BOURSOMATIC_PROVIDER") or DEFAULT_PROVIDER,
            provider_path=values.get("BOURSOMATIC_PROVIDER_PATH") or None,
            max_rejected_share=_share(values, "BOURSOMATIC_MAX_REJECTED_SHARE"),
            threads=_count(values, "BOURSOMATIC_THREADS"),
        )


def _place(text: str) -> str:
    return text if "://" in text else str(_folder("ARTIFACTS_DIR", text))


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        message = f"{name} must be a folder; found {text!r}: {error}"
        raise ConfigurationError(message) from None


def _share(values: Mapping[str, str], name: str) -> float:
    text = values.get(name) or str(DEFAULT_MAX_REJECTED_SHARE)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        message = f"{name} must be a fraction from 0 to 1; found {text!r}. Example: {name}=0.01"
        raise ConfigurationError(message)
    return share


def _count(values: Mapping[str, str], name: str) -> int:
    text = values.get(name) or "0"
    if not (text.isascii() and text.isdecimal()):
        message = f"{name} must be a whole number, 0 for all cores; found {text!r}. Example: {name}=2"
        raise ConfigurationError(message)
    return int(text)
