"""Bringing the stored tables up to date: what a source has that is new goes in, what is there stays untouched."""
