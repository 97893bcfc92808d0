"""The report page and the trace page."""
