"""The report of a model version and the trace of a recommendation: HTML pages that load nothing."""
