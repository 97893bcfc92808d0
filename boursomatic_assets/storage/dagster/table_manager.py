"""Market assets read from their PostgreSQL tables."""

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from boursomatic_assets.core.dataset.features import FEATURE_NAMES
from boursomatic_assets.errors import StorageError
from boursomatic_assets.storage.dagster.io_managers import RunIOManager, as_annotated
from boursomatic_assets.storage.dagster.retries import try_again
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.instruments_table import read_instruments
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars
from boursomatic_assets.storage.postgres.panels import Part
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


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
        """Read a panel; in a run, once more where the database was away."""
        try:
            return self._read(context)
        except StorageError as error:
            # None where somebody loads a value outside of any run.
            step = context._step_context  # noqa: SLF001
            if step is not None:
                try_again(error, step.dagster_run, step.previous_attempt_count)
            raise

    def _read(self, context: dg.InputContext) -> "pl.DataFrame | pd.DataFrame":
        database, wish = self.launched_platform().database(), context.definition_metadata
        part = Part(lookback_days=self.launched_experiment().lookback_days if wish.get("recent") else None)
        match context.asset_key.path[-1]:
            case "price_bars":
                panel = read_usable_bars(database, wish.get("columns", tuple(BAR_COLUMNS)), part)
            case "features":
                panel = read_features(database, wish.get("columns", FEATURE_NAMES), part)
            case _:
                panel = read_instruments(database)
        return as_annotated(panel, context)
