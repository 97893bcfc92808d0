"""The lineage graph: one module a group, thin over the core module of the same name."""
