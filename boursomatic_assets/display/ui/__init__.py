"""Pictures, tables and column lineage for the Dagster UI.

Each function returns metadata values or a PNG for an asset; `metadata` has what several assets share.
"""
