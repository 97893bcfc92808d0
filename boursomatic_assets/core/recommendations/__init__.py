"""Calls for each risk profile, their evidence, their reasons in two languages, and their outcomes.

Who may be recommended on, and the rows of the database, are in `services.recommending`.
"""
