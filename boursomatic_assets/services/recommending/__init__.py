"""Recommendations from the active version, and their audit."""
