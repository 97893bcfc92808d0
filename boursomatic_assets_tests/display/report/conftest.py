from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boursomatic_assets_tests.support.browser import Window, open_window

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with open_window() as opened:
        yield opened
