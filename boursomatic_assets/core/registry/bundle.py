"""The model bundle: its files, the manifest with their digests, and the check that they are unchanged."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.manifest import Manifest
from boursomatic_assets.errors import TamperedArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

MANIFEST = "manifest.json"
BUNDLE_FILES = (
    "classifier.pkl",
    "regressor.pkl",
    "classifier.txt",
    "regressor.txt",
    "metrics.json",
    "feature_importance.csv",
)
# The profile for drift; bundles of earlier versions have none.
REFERENCE = "reference.json"
TOKEN_DIGITS = 6


def version_name(trained_at: datetime, token: str) -> str:
    """Name a version `YYYYMMDD_HHMMSS_<6 hex>`; the token tells apart two of one second."""
    return f"{trained_at:%Y%m%d_%H%M%S}_{token[:TOKEN_DIGITS]}"


def version_time(version: str) -> datetime | None:
    """The time in a version's name, UTC without a time zone; None for another name."""
    moment, _, token = version.rpartition("_")
    if not re.fullmatch(r"\d{8}_\d{6}", moment) or not re.fullmatch(rf"[0-9a-f]{{{TOKEN_DIGITS}}}", token):
        return None
    try:
        return datetime.strptime(moment, "%Y%m%d_%H%M%S")  # noqa: DTZ007 (UTC, as the table keeps it)
    except ValueError:
        return None


def sha256(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def strict_json(value: Any) -> bytes:  # noqa: ANN401 (any JSON value)
    """Encode as JSON without NaN or infinity (ValueError); keys are sorted, so equal values give equal bytes."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def build_bundle(  # noqa: PLR0913, PLR0917 (each is a part of a bundle)
    classifier: FittedModel,
    regressor: FittedModel,
    metrics: Mapping[str, Any],
    importance: pl.DataFrame,
    provenance: Mapping[str, Any],
    reference: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Lay out a bundle: file name to content, the manifest last.

    `provenance` is what the manifest says beside the digests: version, experiment, data fingerprints, code revision
    and package versions. `reference` is the result of `build_reference`.
    """
    contents = (
        classifier.pickled,
        regressor.pickled,
        classifier.text.encode(),
        regressor.text.encode(),
        strict_json(metrics),
        importance.write_csv().encode(),
    )
    files = dict(zip(BUNDLE_FILES, contents, strict=True))
    if reference is not None:
        files[REFERENCE] = strict_json(reference)
    manifest = {
        **provenance,
        "feature_names": list(classifier.feature_names),
        "class_names": list(classifier.class_names),
        "files": {name: {"sha256": sha256(content), "bytes": len(content)} for name, content in files.items()},
    }
    return {**files, MANIFEST: strict_json(manifest)}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files match its manifest, and whose manifest matches its own digest."""

    manifest: Manifest
    files: dict[str, bytes]

    @classmethod
    def verified(cls, files: Mapping[str, bytes], manifest_sha256: str | None) -> Bundle:
        """Compare digests before anything is used.

        `manifest_sha256` is the digest of the database row; None for rows of other programs, which recorded none.

        Raises
        ------
        TamperedArtifactError
            Naming the file, the digest expected and the one found.
        """
        found = sha256(files[MANIFEST])
        if manifest_sha256 is not None and found != manifest_sha256:
            raise _tampered(MANIFEST, manifest_sha256, found)
        try:
            manifest = Manifest.model_validate_json(files[MANIFEST])
            digests = {
                name: manifest.files[name].sha256 for name in dict.fromkeys([*BUNDLE_FILES, *manifest.files])
            }
        except (ValueError, KeyError) as error:
            raise _tampered(MANIFEST, f"that of a manifest of {', '.join(BUNDLE_FILES)}", found) from error
        for name, expected in digests.items():
            if name not in files:
                raise _tampered(name, expected, "no such file")
            if sha256(files[name]) != expected:
                raise _tampered(name, expected, sha256(files[name]))
        # Nothing that the manifest does not list is used.
        return cls(manifest, {name: files[name] for name in (MANIFEST, *digests)})

    @property
    def experiment(self) -> Experiment:
        """The experiment that shaped the models."""
        return Experiment.parse(self.manifest.experiment)

    def classifier(self) -> FittedModel:
        """The classifier, predicting from its text."""
        return self._model("classifier", CLASS_NAMES)

    def regressor(self) -> FittedModel:
        """The regressor, predicting from its text."""
        return self._model("regressor", ())

    def _model(self, name: str, class_names: tuple[str, ...]) -> FittedModel:
        return FittedModel(
            text=self.files[f"{name}.txt"].decode(),
            pickled=self.files[f"{name}.pkl"],
            feature_names=self.manifest.feature_names or (),
            class_names=class_names,
        )


def _tampered(name: str, expected: str, found: str) -> TamperedArtifactError:
    message = (
        f"{name} is not the file that was recorded: expected SHA-256 {expected}, found {found}. Nothing of this "
        "bundle was used. Restore it from a backup, or train anew: boursomatic materialize --select features+"
    )
    return TamperedArtifactError(message)
