"""Recommendations of the active version, their outcomes, and audits of both."""
