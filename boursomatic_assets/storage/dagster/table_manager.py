"""IO manager of the market assets, which live in PostgreSQL tables."""

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
from boursomatic_assets.storage.postgres.panels import Selection
from boursomatic_assets.storage.postgres.tables import BAR_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


class TableIOManager(RunIOManager):
    """Reads `instruments`, `price_bars` (usable bars) and `features` from their tables; the assets write them.

    An input's metadata may name `columns`, and set `recent` for rows within the experiment's lookback.
    """

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401
        """Refuse: the asset writes its table."""
        message = (
            f"{context.asset_key.to_user_string()} is kept in its table, not handed over as {type(obj).__name__}"
        )
        raise TypeError(message)

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401
        """Read a panel; in a run, retry if the database is down."""
        try:
            return self._read(context)
        except StorageError as error:
            # None outside of a run.
            step = context._step_context  # noqa: SLF001
            if step is not None:
                try_again(error, step.dagster_run, step.previous_attempt_count)
            raise

    def _read(self, context: dg.InputContext) -> "pl.DataFrame | pd.DataFrame":
        database, wanted = self.launched_platform().database(), context.definition_metadata
        selection = Selection(
            lookback_days=self.launched_experiment().lookback_days if wanted.get("recent") else None
        )
        match context.asset_key.path[-1]:
            case "price_bars":
                panel = read_usable_bars(database, wanted.get("columns", tuple(BAR_COLUMNS)), selection)
            case "features":
                panel = read_features(database, wanted.get("columns", FEATURE_NAMES), selection)
            case _:
                panel = read_instruments(database)
        return as_annotated(panel, context)
