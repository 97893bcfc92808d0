"""Bars from a provider into the database: fetched, checked, compared with what is stored, written.

`bars` is the way of every source; `fetching` adds what a network needs; `audit` looks at what is stored.
"""
