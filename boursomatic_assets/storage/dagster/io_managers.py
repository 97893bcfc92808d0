"""IO managers: panels as Parquet, models as packed text and pickle, figures as JSON."""

from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg
import polars as pl
from upath import UPath

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.registry.bundle import sha256
from boursomatic_assets.errors import MissingArtifactError
from boursomatic_assets.storage.artifacts import bundles as model_store
from boursomatic_assets.storage.artifacts.files import read_whole, write_whole
from boursomatic_assets.storage.artifacts.folds import (
    ASSET,
    StoredFolds,
    earlier_record,
    fold_number,
    fold_path,
    load_folds,
)
from boursomatic_assets.storage.artifacts.stamps import (
    figures_version,
    from_json,
    from_parquet,
    panel_version,
    refuse_stale,
    stamp_for,
    to_json,
    to_parquet,
)
from boursomatic_assets.storage.dagster.pandas_frames import to_pandas
from boursomatic_assets.storage.dagster.recorded_files import file_metadata, recorded_input
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource

if TYPE_CHECKING:
    import pandas as pd


class RunIOManager(dg.ConfigurableIOManager):
    """Base with the platform and the experiment of the run, as set in the Launchpad."""

    platform: dg.ResourceDependency[PlatformResource]
    experiment: dg.ResourceDependency[ExperimentResource]

    def launched_platform(self) -> PlatformResource:
        """The platform, typed as it is in a run."""
        return self.platform

    def launched_experiment(self) -> Experiment:
        """The experiment of the run."""
        return self.experiment.value()

    def get_resource_definition(self) -> Any:  # noqa: ANN401 (a type that Dagster does not export)
        """Declare the two resources.

        A run finds them without it; `Definitions.load_asset_value` (1.13) reads only the declared keys.
        """
        definition = super().get_resource_definition()
        definition._required_resource_keys = frozenset({"platform", "experiment"})  # noqa: SLF001
        return definition


class ArtifactIOManager(RunIOManager):
    """Keeps an asset as one file, stamped with the part of the experiment that shaped it."""

    suffix: ClassVar[str] = ""

    def encode(self, value: Any, stamp: dict[str, Any]) -> bytes:  # noqa: ANN401
        """Bytes of a file from a value and its stamp."""
        raise NotImplementedError

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Value for an input, and the stamp, from the bytes of a file."""
        raise NotImplementedError

    def earlier_digests(self, content: bytes, asset: str) -> dict[str, object]:
        """What versions that recorded no digest of a file recorded instead, computed from its bytes."""
        raise NotImplementedError

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Store a value, replacing the file atomically, and record its digest."""
        asset = context.asset_key.path[-1]
        content = self.encode(obj, stamp_for(asset, self.launched_experiment()))
        path = self._path(asset)
        write_whole(path, content)
        context.add_output_metadata(file_metadata(path, content))

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read a value; refuse other bytes than those recorded, and a value built under another experiment."""
        asset = context.asset_key.path[-1]
        return self._verified_value(context, self._path(asset), asset)

    def _verified_value(
        self, context: dg.InputContext, path: UPath, asset: str, partition: str | None = None
    ) -> Any:  # noqa: ANN401
        content = read_whole(path, asset)
        recorded = recorded_input(context, partition)
        recorded.require(path, content, lambda: self.earlier_digests(content, asset))
        value, stamp = self.decode(content, context)
        refuse_stale(asset, stamp, self.launched_experiment())
        return value

    def _path(self, asset: str) -> UPath:
        return self.launched_platform().artifacts() / "assets" / f"{asset}{self.suffix}"


class ParquetIOManager(ArtifactIOManager):
    """Panels and tables as Parquet; polars where annotated so, else pandas."""

    suffix: ClassVar[str] = ".parquet"

    def encode(self, value: pl.DataFrame, stamp: dict[str, Any]) -> bytes:
        """Write Parquet with the stamp in its metadata."""
        return to_parquet(value, stamp)

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Read Parquet, or the `columns` of the input, as the annotated frame."""
        columns = context.definition_metadata.get("columns")
        panel, stamp = from_parquet(content, context.asset_key.path[-1], columns)
        return as_annotated(panel, context), stamp

    def earlier_digests(self, content: bytes, asset: str) -> dict[str, object]:
        """The version of the panel's content."""
        return {**panel_version(content, asset)}


class FoldIOManager(ParquetIOManager):
    """Reads folds of the walk-forward: one as a panel, or all together. The asset writes each fold when trained."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Refuse: the asset writes its folds."""
        message = f"{context.asset_key.to_user_string()} writes its folds itself, not as {type(obj).__name__}"
        raise TypeError(message)

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read all folds where annotated so, else the fold of the input's partition."""
        experiment, artifacts = self.launched_experiment(), self.launched_platform().artifacts()
        if context.dagster_type.typing_type is StoredFolds:
            columns = context.definition_metadata.get("columns")
            return load_folds(artifacts, experiment, lambda key: recorded_input(context, key), columns)
        key = context.asset_partition_key
        path = fold_path(artifacts, fold_number(key, experiment.walk_forward.folds))
        return self._verified_value(context, path, ASSET, key)

    def earlier_digests(self, content: bytes, asset: str) -> dict[str, object]:  # noqa: ARG002
        """The size: the version of a fold is that of what it was made from."""
        return earlier_record(content)


class JsonIOManager(ArtifactIOManager):
    """Figures and reports as strict JSON."""

    suffix: ClassVar[str] = ".json"

    def encode(self, value: dict[str, Any], stamp: dict[str, Any]) -> bytes:
        """Write the value beside its stamp."""
        return to_json(value, stamp)

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Read the value and its stamp."""
        return from_json(content, context.asset_key.path[-1])

    def earlier_digests(self, content: bytes, asset: str) -> dict[str, object]:
        """The version of the figures."""
        return {**figures_version(content, asset)}


class ModelIOManager(ArtifactIOManager):
    """A trained model as LightGBM text, pickle and digests in one archive. Reading never unpickles."""

    suffix: ClassVar[str] = ".zip"

    def encode(self, value: FittedModel, stamp: dict[str, Any]) -> bytes:
        """Pack the model."""
        return model_store.pack_model(value, stamp)

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Unpack the model, comparing digests."""
        return model_store.unpack_model(content, context.asset_key.path[-1])

    def earlier_digests(self, content: bytes, asset: str) -> dict[str, object]:
        """Digests of text and pickle."""
        model, _ = model_store.unpack_model(content, asset)
        return {"text_sha256": sha256(model.text.encode()), "pickle_sha256": sha256(model.pickled)}


class NoValueIOManager(dg.ConfigurableIOManager):
    """For assets without a value to load. Dagster's own default would open a pickle."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Refuse: nothing of the asset is kept."""
        message = f"{context.get_identifier()[-1]} keeps no value, found {type(obj).__name__}"
        raise TypeError(message)

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Refuse."""
        message = f"{context.asset_key.to_user_string()} has no value to load: see its metadata in the UI"
        raise MissingArtifactError(message)


def as_annotated(panel: pl.DataFrame, context: dg.InputContext) -> "pl.DataFrame | pd.DataFrame":
    """Polars where the input is annotated so, else pandas."""
    return panel if context.dagster_type.typing_type is pl.DataFrame else to_pandas(panel)
