"""Where things are kept: PostgreSQL tables, artifact files, the Dagster instance, the embedded server."""
