"""A database with simulated bars, their features and a small active model: all that recommendations need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from upath import UPath

from boursomatic_assets.core.dataset.experiment import BoosterParameters, Experiment, Profile, Profiles
from boursomatic_assets.core.dataset.features import is_warmed_up
from boursomatic_assets.core.dataset.labels import label_panel, labelled_rows
from boursomatic_assets.core.market.simulation import SimulatedMarket, simulate_bars
from boursomatic_assets.core.models.training import fit_classifier, fit_regressor
from boursomatic_assets.core.registry.bundle import build_bundle
from boursomatic_assets.services.features import update_features
from boursomatic_assets.services.recommending.recommend import RecommendationUpdate, update_recommendations
from boursomatic_assets.storage.artifacts.bundles import save_bundle
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.instruments_table import write_instruments
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars, write_bars
from boursomatic_assets.storage.postgres.model_table import ModelRow, active_version, record_version
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations
from boursomatic_assets_tests.support.catalog import versions_of
from boursomatic_assets_tests.support.panels import accepted, listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boursomatic_assets.core.models.training import FittedModel
    from boursomatic_assets.storage.postgres.database import Database

SESSIONS = 80
BOOSTER = BoosterParameters(n_estimators=8, min_child_samples=5)
EXPERIMENT = Experiment(horizon=5, buy_threshold=0.02, sell_threshold=-0.02, classifier=BOOSTER, regressor=BOOSTER)
TAU, TEMPERATURE = 0.3, 1.25
RUN = {"run_id": "a run", "code": {"package": "0"}}
# Profiles that are met by many rows, so that each kind of call is made.
EAGER = Profiles(
    conservative=Profile(buy_probability=0.40, sell_probability=0.40, max_volatility=0.03),
    moderate=Profile(buy_probability=0.36, sell_probability=0.36, max_volatility=0.04),
    aggressive=Profile(buy_probability=0.30, sell_probability=0.30, max_volatility=0.20),
)


def fill(database: Database, symbols: int, seed: int = 3) -> pl.DataFrame:
    """Bring simulated bars and their features in; returns the bars."""
    bars = simulate_bars(SimulatedMarket(symbols, SESSIONS), seed)
    write_instruments(database, listed(*bars["symbol"].unique().sort()))
    write_bars(database, accepted(bars), "simulated")
    update_features(database, "1", _say_nothing)
    return bars


def train(database: Database, experiment: Experiment = EXPERIMENT) -> tuple[FittedModel, FittedModel]:
    """A classifier and a regressor of what the database holds."""
    closes = read_usable_bars(database, ["close", "exchange"])
    labels = labelled_rows(label_panel(read_features(database), closes, experiment))
    rows = labels.filter(is_warmed_up(experiment.features))
    return fit_classifier(rows, experiment), fit_regressor(rows, experiment)


def record(
    database: Database,
    artifacts: Path,
    models: tuple[FittedModel, FittedModel],
    experiment: Experiment = EXPERIMENT,
    **said: Any,  # noqa: ANN401 (anything of JSON)
) -> ModelRow:
    """Store a bundle of the models and make it the active version; `said` is what else its manifest says."""
    moment = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    manifest = {
        "experiment": experiment.model_dump(mode="json"),
        "threshold": {"tau": TAU, "temperature": TEMPERATURE},
        **said,
    }
    importance = pl.DataFrame({"feature": models[0].feature_names})
    version, folder, digest = save_bundle(
        UPath(artifacts),
        moment,
        lambda version: build_bundle(*models, {}, importance, {"version": version, **manifest}),
    )
    row = ModelRow(version, moment, experiment.params_hash, {}, str(folder), digest)
    active = active_version(database)
    record_version(database, row, who="test", why="trained", champion=active.version if active else None)
    return row


def update(database: Database, **changed: Any) -> RecommendationUpdate:  # noqa: ANN401 (parts of the experiment)
    """Recommend; of the experiment of the run only what is made of a model's probabilities matters."""
    experiment = EXPERIMENT.model_copy(update={"profiles": EAGER, **changed})
    return update_recommendations(database, experiment, RUN, _say_nothing)


def next_session(database: Database, bars: pl.DataFrame, change: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
    """One more session of every symbol, its prices changed from the last; features follow."""
    newest: Any = bars["session"].max()
    # The simulation knows weekdays only, and its last is a Friday.
    later = newest + timedelta(days=3 if newest.isoweekday() == 5 else 1)
    last = bars.group_by("symbol", maintain_order=True).last()
    prices = [change(pl.col(name)) for name in ("open", "high", "low", "close")]
    delivered = last.with_columns(pl.lit(later).alias("session"), *prices)
    write_bars(database, accepted(delivered), "simulated")
    update_features(database, "1", _say_nothing)
    return delivered


def stored_rows(database: Database) -> dict[str, tuple[object, ...]]:
    """Every row of the table, with the transaction that wrote it last."""
    return versions_of(database, "recommendations")


def active_rows(database: Database) -> pl.DataFrame:
    return read_recommendations(database, with_snapshot=True)


def _say_nothing(_message: str) -> None:
    pass
