"""The Dagster instance, IO managers, resources, and retries of what passes."""
