"""Ingest: fetch bars from a provider, check them, compare them with the stored ones, write them.

`bars` serves every source; `fetching` adds what a network needs; `audit` checks the stored bars.
"""
