"""What people look at.

`ui` for Dagster's pages, `terminal` for the command line, `report` for the pages that are files. Values come in,
text and pictures go out. No figure is computed here.
"""
