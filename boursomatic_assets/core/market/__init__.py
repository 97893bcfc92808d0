"""Bars and their contract, exchange calendars, corporate actions, membership, simulated prices."""
