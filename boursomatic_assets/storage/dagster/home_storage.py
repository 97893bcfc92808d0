"""Storage of the product's own Dagster instance: the database in use, whichever program opens the instance."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from dagster_postgres import DagsterPostgresStorage

if TYPE_CHECKING:
    from collections.abc import Mapping


class HomeStorage(DagsterPostgresStorage):
    """PostgreSQL storage that finds its address by itself, also in `dagster-webserver` and `dagster-daemon`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:  # noqa: ANN401, ARG003
        """Open the database in use; the embedded server is started where there is no other."""
        from boursomatic_assets.settings import Settings
        from boursomatic_assets.storage.dagster.instance import URL_VARIABLE, instance_url
        from boursomatic_assets.storage.postgres.database import Database

        url = os.environ.get(URL_VARIABLE) or instance_url(Database.open(Settings.from_environment()))
        return cls(url, inst_data=inst_data)
