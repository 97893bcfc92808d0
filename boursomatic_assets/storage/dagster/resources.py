"""Dagster resources: the experiment, editable in the Launchpad for the whole run, and the platform's settings."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field, create_model
from upath import UPath

from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.postgres.database import Database


def _launchpad_fields(model: type[BaseModel], values: BaseModel | None = None) -> dict[str, Any]:
    """Fields of a core model that Dagster can show and edit; `values` are the defaults."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        annotation, default = field.annotation, getattr(values, name) if values else field.default
        if isinstance(default, BaseModel):
            # A class per field: two profiles have the same fields but different defaults.
            nested: Any = create_model(
                f"{model.__name__}_{name}", __base__=dg.Config, **_launchpad_fields(type(default), default)
            )
            annotation, default = nested, nested()
        elif isinstance(default, tuple):
            annotation, default = list[str], list(default)
        fields[name] = (annotation, Field(default, description=field.description))
    return fields


_ExperimentFields: Any = create_model(
    "ExperimentFields", __base__=dg.ConfigurableResource, **_launchpad_fields(Experiment)
)


class ExperimentResource(_ExperimentFields):
    """Every number that shapes a model: horizon, thresholds, split, features, both models' parameters, cost.

    A change made here holds for the whole run. Assets built under other values refuse to be mixed with it.
    """

    def value(self) -> Experiment:
        """The validated experiment."""
        raw = {name: getattr(self, name) for name in Experiment.model_fields}
        return Experiment.parse(
            {name: item.model_dump() if isinstance(item, BaseModel) else item for name, item in raw.items()}
        )


def _require_allowed_places(configured: Settings, run: Settings) -> Settings:
    """The run's settings; links among its price files lead no further than the files may lie."""
    if run.provider_path != configured.provider_path:
        path = Path(run.provider_path or "").expanduser().resolve()
        own = [Path(configured.provider_path).expanduser()] if configured.provider_path else []
        allowed = [*configured.price_folders, *own]
        run = replace(run, link_folders=tuple(folder.resolve() for folder in allowed))
        if not any(map(path.is_relative_to, run.link_folders or ())):
            places = ", ".join(map(str, allowed))
            message = (
                f"a run may read price files only below {places}; found {run.provider_path!r}. "
                "Put them there, set BOURSOMATIC_PRICE_FOLDERS and start boursomatic dev again, or run "
                "boursomatic materialize --path in a terminal"
            )
            raise ConfigurationError(message)
    root, place = configured.artifacts_dir.rstrip("/"), run.artifacts_dir
    if ".." in place.split("/") or not f"{place}/".startswith(f"{root}/"):
        message = (
            f"a run may write artifacts only below ARTIFACTS_DIR, {root}; found {place!r}. "
            "Set ARTIFACTS_DIR and start boursomatic dev again"
        )
        raise ConfigurationError(message)
    return run


class PlatformResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where prices come from and where artifacts go. What is left empty comes from the environment.

    The database is only ever named by the environment (`DATABASE_URL`), since its address may hold a password.
    """

    provider: str | None = Field(None, description="Price source; empty: BOURSOMATIC_PROVIDER, or sample.")
    provider_path: str | None = Field(
        None, description="File or folder for the source `files`, below BOURSOMATIC_PRICE_FOLDERS."
    )
    max_rejected_share: float | None = Field(
        None, description="Largest share of bars, as a fraction, that may break the bar contract."
    )
    artifacts_dir: str | None = Field(None, description="Folder or URL below ARTIFACTS_DIR; empty: ARTIFACTS_DIR.")
    exchanges: str | None = Field(
        None, description="Calendars to update from a network source, such as XNYS or XPAR,XAMS,XBRU; empty: all."
    )
    threads: int | None = Field(None, description="Threads for training, 0 for all. Never changes a result.")

    def settings(self) -> Settings:
        """Settings of the environment with this run's overrides.

        Raises ConfigurationError if the run names price files or artifacts outside the configured folders: who may
        launch a run must not read or write other files.
        """
        overrides = {
            "BOURSOMATIC_PROVIDER": self.provider,
            "BOURSOMATIC_PROVIDER_PATH": self.provider_path,
            "BOURSOMATIC_MAX_REJECTED_SHARE": self.max_rejected_share,
            "ARTIFACTS_DIR": self.artifacts_dir,
            "BOURSOMATIC_EXCHANGES": self.exchanges,
            "BOURSOMATIC_THREADS": self.threads,
        }
        given = {name: str(value) for name, value in overrides.items() if value is not None}
        configured = Settings.from_environment()
        if not given:
            return configured
        run = Settings.from_environment({**os.environ, **given})
        return _require_allowed_places(configured, run)

    def database(self) -> Database:
        """Open the database in use."""
        return Database.open(self.settings())

    def artifacts(self) -> UPath:
        """Root of the artifacts."""
        return UPath(self.settings().artifacts_dir)
