from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets.storage.dagster.instance import open_instance
from boursomatic_assets_tests.conftest import environment_at, fresh_database, upgraded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg
    import sqlalchemy as sa


@pytest.fixture(scope="module")
def instance(postgres: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home = tmp_path_factory.mktemp("instance")
    with (
        environment_at(home),
        fresh_database(postgres) as settings,
        open_instance(settings, upgraded(settings)) as opened,
    ):
        yield opened
