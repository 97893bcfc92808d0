"""What people look at: pictures and metadata for the UI, tables for the terminal, the pages of report and trace.

Nothing is computed here that a figure, a row or a decision depends on.
"""
