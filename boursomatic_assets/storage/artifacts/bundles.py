"""Model assets and the bundles of model versions."""

from __future__ import annotations

import io
import json
import secrets
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from upath import UPath

import boursomatic_assets
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import MANIFEST, Bundle, sha256, strict_json, version_name
from boursomatic_assets.errors import MissingArtifactError, TamperedArtifactError
from boursomatic_assets.storage.artifacts.files import read_folder, write_folder

_PACKAGES = ("dagster", "lightgbm", "numpy", "pandas", "polars", "scikit-learn", "boursomatic-assets")
MOST_MODEL_BYTES = 1 << 29
_OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_MODEL_PARTS = ("model.txt", "model.pkl")
# Errors of the standard library for a truncated or altered archive.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, KeyError, ValueError, TypeError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


def pack_model(model: FittedModel, stamp: dict[str, Any]) -> bytes:
    """Pack a model asset into one archive of text, pickle and digests."""
    parts = dict(zip(_MODEL_PARTS, (model.text.encode(), model.pickled), strict=True))
    card = {
        "stamp": stamp,
        "feature_names": list(model.feature_names),
        "class_names": list(model.class_names),
        "sha256": {name: sha256(content) for name, content in parts.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**parts, "model.json": strict_json(card)}.items():
            archive.writestr(zipfile.ZipInfo(name, _OLDEST_ZIP_DATE), content)
    return buffer.getvalue()


def unpack_model(content: bytes, asset: str) -> tuple[FittedModel, dict[str, Any]]:
    """Read a packed model and its stamp without unpickling; raises TamperedArtifactError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Only what is named, and no more than a model can be: a small archive may unpack to gigabytes.
            sizes = {name: archive.getinfo(name).file_size for name in ("model.json", *_MODEL_PARTS)}
            if max(sizes.values()) > MOST_MODEL_BYTES:
                message = f"a part has {max(sizes.values()):,} bytes, more than {MOST_MODEL_BYTES:,}"
                raise ValueError(message)
            parts = {name: archive.read(name) for name in sizes}
        card = json.loads(parts["model.json"])
        digests = {name: (card["sha256"][name], sha256(parts[name])) for name in _MODEL_PARTS}
        described, stamp = (tuple(card["feature_names"]), tuple(card["class_names"])), card["stamp"]
    except _DAMAGE as error:
        message = (
            f"the stored asset {asset} is damaged: {error}.\n"
            f"Train it again: boursomatic materialize --select {asset}"
        )
        raise TamperedArtifactError(message) from error
    for name, (expected, found) in digests.items():
        _compare(f"{asset}: {name}", expected, found, asset)
    return FittedModel(parts["model.txt"].decode(), parts["model.pkl"], *described), stamp


def _compare(what: str, expected: str, found: str, asset: str) -> None:
    if expected != found:
        message = (
            f"{what} is not what was stored: expected SHA-256 {expected}, found {found}. It was not used.\n"
            f"Train it again: boursomatic materialize --select {asset}"
        )
        raise TamperedArtifactError(message)


def save_bundle(
    root: UPath, trained_at: datetime, build: Callable[[str], dict[str, bytes]]
) -> tuple[str, UPath, str]:
    """Store the files that `build` returns under a new version; returns version, folder and manifest digest."""
    while True:
        version = version_name(trained_at, secrets.token_hex(3))
        files = build(version)
        try:
            write_folder(root / "models" / version, files)
        except FileExistsError:
            continue
        return version, root / "models" / version, sha256(files[MANIFEST])


def open_bundle(folder: str, manifest_sha256: str | None, version: str | None = None) -> Bundle:
    """Read a bundle after comparing every digest, and its version where one is given.

    Raises MissingArtifactError if the folder or its manifest is missing, TamperedArtifactError if a file differs
    from its digest or the bundle is another version's.
    """
    files = read_folder(UPath(folder))
    if MANIFEST not in files:
        message = f"{folder} holds no {MANIFEST}: it is no bundle, or was never finished"
        raise MissingArtifactError(message)
    bundle = Bundle.verified(files, manifest_sha256)
    if version is not None and bundle.manifest.version != version:
        message = (
            f"the bundle at {folder} is that of version {bundle.manifest.version}; expected version {version}. "
            "It was not used"
        )
        raise TamperedArtifactError(message)
    return bundle


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a model."""
    return {name: metadata.version(name) for name in _PACKAGES}


@cache
def code_revision() -> dict[str, str | None]:
    """Package version, digest of the sources, and git commit if any."""
    folder = Path(boursomatic_assets.__file__).parent
    sources = sorted(folder.rglob("*.py"))
    digest = sha256(b"".join(path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in sources))
    return {"package": boursomatic_assets.__version__, "source_sha256": digest, "git": _git_commit(folder)}


def _git_commit(folder: Path) -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 (whichever git the user has)
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
