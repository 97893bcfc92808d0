"""Storage of the product's own Dagster instance: the database in use, whichever program opens the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from dagster_postgres import DagsterPostgresStorage

from boursomatic_assets.storage.dagster.instance import POOLING, instance_url

if TYPE_CHECKING:
    from collections.abc import Mapping


class HomeStorage(DagsterPostgresStorage):
    """PostgreSQL storage that finds its address by itself, also in `dagster-webserver` and `dagster-daemon`.

    Its connections are pooled: the daemon and its code servers would otherwise open seven a second.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:  # noqa: ANN401, ARG003
        """Open the database in use; the embedded server is started where there is no other."""
        from boursomatic_assets.settings import Settings, instance_address
        from boursomatic_assets.storage.postgres.database import Database

        url = instance_address() or instance_url(Database.open(Settings.from_environment()))
        storage = cls(url, inst_data=inst_data)
        for each in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            each.optimize_for_webserver(**POOLING)
        return storage
