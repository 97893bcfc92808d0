"""Pictures and metadata for the Dagster UI."""
