"""Text and pictures for people: `ui` for Dagster's pages, `terminal` for the command line, `report` for HTML pages.

No figure is computed here.
"""
