"""One trained version for the commands that look back at what was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.support.installation import Installation, new_installation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def trained_once() -> Iterator[Installation]:
    """An installation with one version, trained on the bundled sample. Tests leave it as they found it."""
    with new_installation() as installation:
        ended = installation.run("materialize", "--select", "+model_version")
        assert ended.code == 0, ended.said
        yield installation
