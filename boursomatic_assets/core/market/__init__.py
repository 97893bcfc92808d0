"""Bars and their contract, exchange calendars, corporate actions, membership, simulated prices.

What is made of bars for a model is in `dataset`.
"""
