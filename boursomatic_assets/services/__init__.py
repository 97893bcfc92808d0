"""Work that takes several steps over storage, from ingest and training to tracing.

A service reads from `storage` and `providers`, computes with `core`, and writes in one transaction. Assets and
commands call it; it knows neither Dagster's graph nor the terminal.
"""
