"""Build pictures, tables and column lineage that the Dagster UI shows.

Each function returns metadata values or a PNG image of one asset. Shared helpers are in `metadata`.
"""
