"""Bars from a provider into the database."""
