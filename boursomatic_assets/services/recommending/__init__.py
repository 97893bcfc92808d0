"""Recommendations of the active version, written once per instrument, profile and session; and their audit.

The audit computes stored recommendations again and names those that differ.
"""
