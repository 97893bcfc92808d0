"""Instruments and bars from a provider into the database, and audits of what is stored.

Reading a source is in `providers`, the bar contract in `core.market`.
"""
