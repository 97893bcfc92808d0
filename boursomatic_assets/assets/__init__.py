"""The lineage graph: one module a group, thin over the core module of the same name."""

import inspect
from types import ModuleType

from boursomatic_assets.core.model_version import sha256

OWNERS = ["team:data"]


def code_version(*modules: ModuleType) -> str:
    """Version an asset's code by the sources of the core modules it calls, so that no edit is forgotten."""
    return sha256("".join(inspect.getsource(module) for module in modules).encode())[:12]
