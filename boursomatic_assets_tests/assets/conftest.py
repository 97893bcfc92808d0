"""A database with one trained version, made once, and copies of it for the tests that change things."""

from __future__ import annotations

import itertools
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.conftest import copy_database
from boursomatic_assets_tests.support.installation import Installation, new_installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

_numbers = itertools.count()


@contextmanager
def installation_on(postgres: sa.Engine, template: str = "template1") -> Iterator[Installation]:
    name = f"assets_{next(_numbers)}"
    copy_database(postgres, template, name)
    url = postgres.url.set(drivername="postgresql", database=name)
    try:
        with new_installation(url.render_as_string(hide_password=False)) as installation:
            yield installation
    finally:
        with postgres.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def blank(postgres: sa.Engine) -> Iterator[Installation]:
    """An empty home, and an empty database on a server that is named."""
    with installation_on(postgres) as installation:
        yield installation


@pytest.fixture(scope="session")
def _upgraded(postgres: sa.Engine) -> Iterator[Installation]:
    with installation_on(postgres) as installation:
        assert installation.run("db", "upgrade").code == 0
        # The first run would set up what Dagster keeps.
        assert installation.run("materialize", "--select", "instruments", "--provider", "database").code == 0
        yield installation


@pytest.fixture
def new(postgres: sa.Engine, _upgraded: Installation) -> Iterator[Callable[[], Installation]]:
    """Make empty installations, each with a database of its own that is ready for use."""
    template = _name(_upgraded)
    with ExitStack() as stack:

        def make() -> Installation:
            installation = stack.enter_context(installation_on(postgres, template))
            shutil.copytree(_upgraded.home, installation.home, dirs_exist_ok=True)
            return installation

        yield make


@pytest.fixture(scope="session")
def _template(postgres: sa.Engine) -> Iterator[Installation]:
    with installation_on(postgres) as installation:
        assert installation.run("db", "upgrade").code == 0
        ended = installation.run("materialize", "--to", "model_version")
        assert ended.code == 0, ended.errors
        yield installation


@pytest.fixture
def trained(postgres: sa.Engine, _template: Installation) -> Iterator[Installation]:
    """An installation with one version, trained on the bundled sample; the test's own."""
    with installation_on(postgres, _name(_template)) as installation:
        shutil.copytree(_template.home, installation.home, dirs_exist_ok=True)
        yield installation


def _name(installation: Installation) -> str:
    assert installation.database_url is not None
    return installation.database_url.rpartition("/")[2].partition("?")[0]
