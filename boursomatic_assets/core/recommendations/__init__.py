"""Calls per risk profile, their reasons in two languages, and their outcomes."""
