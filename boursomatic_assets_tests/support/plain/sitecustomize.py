# noqa: INP001 (Python looks for it in the folders of PYTHONPATH)
"""Hides packages that only tests install. A process with this folder on PYTHONPATH sees what a user has."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_ONLY_FOR_TESTS = {"arch", "bokeh_sampledata", "pyarrow", "skfolio", "statsmodels"}


class _Hiding(PathFinder):
    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_hidden = fullname.partition(".")[0] in _ONLY_FOR_TESTS
        return None if is_hidden else super().find_spec(fullname, path, target)


sys.meta_path[:] = [_Hiding if finder is PathFinder else finder for finder in sys.meta_path]
