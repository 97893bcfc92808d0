"""Boursomatic's data platform: price bars to BUY / HOLD / SELL, as one Dagster lineage graph."""

from importlib.metadata import version

__version__ = version("boursomatic-assets")
