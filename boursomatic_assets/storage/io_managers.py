"""How each asset is kept: panels as Parquet, models as packed text and pickle, tables in PostgreSQL."""

import io
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import dagster as dg
import pandas as pd
import polars as pl
from upath import UPath

from boursomatic_assets.core.experiment import Experiment
from boursomatic_assets.core.features import FEATURE_NAMES
from boursomatic_assets.core.model_version import strict_json
from boursomatic_assets.core.models import FittedModel
from boursomatic_assets.errors import StaleInputError, TamperedArtifactError
from boursomatic_assets.storage import market_tables, model_store
from boursomatic_assets.storage.artifacts import read_whole, write_whole
from boursomatic_assets.storage.instruments_table import read_instruments
from boursomatic_assets.storage.panels import Part
from boursomatic_assets.storage.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.tables import BAR_COLUMNS

# Under this key a Parquet file says which asset it is and which experiment shaped it.
STAMP = "boursomatic"


class RunIOManager(dg.ConfigurableIOManager):
    """Knows the platform and the experiment of the run, as the Launchpad may have changed them."""

    platform: dg.ResourceDependency[PlatformResource]
    experiment: dg.ResourceDependency[ExperimentResource]

    def launched_platform(self) -> PlatformResource:
        """The platform as it is in a run: an instance, no longer a promise of one."""
        return self.platform

    def launched_experiment(self) -> Experiment:
        """The experiment of the run."""
        return self.experiment.value()

    def get_resource_definition(self) -> Any:  # noqa: ANN401 (a type that Dagster does not export)
        """Name the two resources openly.

        A run finds them by itself; `Definitions.load_asset_value` (1.13) only looks at the keys named here.
        """
        definition = super().get_resource_definition()
        definition._required_resource_keys = frozenset({"platform", "experiment"})  # noqa: SLF001
        return definition


class ArtifactIOManager(RunIOManager):
    """Keeps an asset as one file, stamped with the part of the experiment that shaped it."""

    suffix: ClassVar[str] = ""

    def encode(self, value: Any, stamp: dict[str, Any]) -> bytes:  # noqa: ANN401
        """Turn an asset's value and its stamp into the bytes of a file."""
        raise NotImplementedError

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Turn a file's bytes back into what the input wants, and the stamp."""
        raise NotImplementedError

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Store a value; the file is replaced as a whole."""
        asset = context.asset_key.path[-1]
        content = self.encode(obj, {"asset": asset, "experiment": self.launched_experiment().part_for(asset)})
        path = self._path(asset)
        write_whole(path, content)
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path)), "bytes": len(content)})

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read a value, refusing one that another experiment shaped."""
        asset = context.asset_key.path[-1]
        value, stamp = self.decode(read_whole(self._path(asset), asset), context)
        self._refuse_stale(asset, stamp["experiment"])
        return value

    def _path(self, asset: str) -> UPath:
        return self.launched_platform().artifacts() / "assets" / f"{asset}{self.suffix}"

    def _refuse_stale(self, asset: str, stored: Mapping[str, Any]) -> None:
        wanted = self.launched_experiment().part_for(asset)
        if stored == wanted:
            return
        names = sorted(set(stored) | set(wanted))
        changes = "".join(
            f"\n  {name}: {stored.get(name)!r} -> {wanted.get(name)!r}"
            for name in names
            if stored.get(name) != wanted.get(name)
        )
        message = (
            f"{asset} was built under another experiment than the one in use:{changes}\n"
            f"Materialize it again, with what follows from it: boursomatic materialize --select '{asset}+'"
        )
        raise StaleInputError(message)


class ParquetIOManager(ArtifactIOManager):
    """Panels and tables as Parquet; handed over as polars where annotated so, else as pandas."""

    suffix: ClassVar[str] = ".parquet"

    def encode(self, value: pl.DataFrame, stamp: dict[str, Any]) -> bytes:
        """Write Parquet with the stamp in its key-value metadata."""
        buffer = io.BytesIO()
        value.write_parquet(buffer, compression="lz4", metadata={STAMP: json.dumps(stamp)})
        return buffer.getvalue()

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Read Parquet, only the `columns` the input asks for, as the annotated frame."""
        asset = context.asset_key.path[-1]
        try:
            stamp = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[STAMP])
            panel = pl.read_parquet(io.BytesIO(content), columns=context.definition_metadata.get("columns"))
        except (pl.exceptions.PolarsError, KeyError, ValueError, OSError) as error:
            message = (
                f"the stored asset {asset} is truncated or damaged ({len(content)} bytes): {error}.\n"
                f"Materialize it again: boursomatic materialize --select {asset}"
            )
            raise TamperedArtifactError(message) from error
        return _as_annotated(panel, context), stamp


class JsonIOManager(ArtifactIOManager):
    """Figures and reports as strict JSON."""

    suffix: ClassVar[str] = ".json"

    def encode(self, value: dict[str, Any], stamp: dict[str, Any]) -> bytes:
        """Write the value beside its stamp."""
        return strict_json({"stamp": stamp, "value": value})

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Read the value and its stamp."""
        asset = context.asset_key.path[-1]
        try:
            stored = json.loads(content)
            return stored["value"], stored["stamp"]
        except (ValueError, KeyError, TypeError) as error:
            message = (
                f"the stored asset {asset} is damaged: {error}.\n"
                f"Materialize it again: boursomatic materialize --select {asset}"
            )
            raise TamperedArtifactError(message) from error


class ModelIOManager(ArtifactIOManager):
    """A trained model as LightGBM text, pickle and digests in one archive. Reading never unpickles."""

    suffix: ClassVar[str] = ".zip"

    def encode(self, value: FittedModel, stamp: dict[str, Any]) -> bytes:
        """Pack the model."""
        return model_store.pack_model(value, stamp)

    def decode(self, content: bytes, context: dg.InputContext) -> tuple[Any, dict[str, Any]]:
        """Unpack the model, comparing digests."""
        return model_store.unpack_model(content, context.asset_key.path[-1])


class TableIOManager(RunIOManager):
    """Reads the market assets from their PostgreSQL tables: `instruments`, `price_bars` and `features`.

    These assets write their tables themselves, piece by piece; what is read of `price_bars` are the usable bars.
    An input's metadata may ask for some `columns`, and for `recent` rows: those within the experiment's lookback
    before the newest bar.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Refuse: a table is never written as one value."""
        message = (
            f"{context.asset_key.to_user_string()} is kept in its table, not handed over as {type(obj).__name__}"
        )
        raise TypeError(message)

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read a panel."""
        database, wish = self.launched_platform().database(), context.definition_metadata
        part = Part(lookback_days=self.launched_experiment().lookback_days if wish.get("recent") else None)
        match context.asset_key.path[-1]:
            case "price_bars":
                panel = market_tables.read_usable_bars(database, wish.get("columns", tuple(BAR_COLUMNS)), part)
            case "features":
                panel = market_tables.read_features(database, wish.get("columns", FEATURE_NAMES), part)
            case _:
                panel = read_instruments(database)
        return _as_annotated(panel, context)


def _as_annotated(panel: pl.DataFrame, context: dg.InputContext) -> pl.DataFrame | pd.DataFrame:
    """Polars where the input is annotated so; pandas for a person who annotates nothing."""
    return panel if context.dagster_type.typing_type is pl.DataFrame else panel.to_pandas()
