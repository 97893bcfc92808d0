"""Recommendations from the active version and their outcomes, each with its audit."""
