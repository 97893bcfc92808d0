"""The Dagster instance and its configuration, IO managers, resources and run launcher."""
