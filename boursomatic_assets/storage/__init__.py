"""Where things are kept: PostgreSQL, artifacts, bundles, and the Dagster instance beside them."""
