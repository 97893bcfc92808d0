"""The lineage graph: one module a group, thin over the core module of the same name."""

from boursomatic_assets.code_versions import code_version

__all__ = ["OWNERS", "code_version"]

OWNERS = ["team:data"]
