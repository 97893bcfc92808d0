"""Pictures, tables and column lineage for the Dagster UI, one module per asset."""
