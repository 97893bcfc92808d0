"""The report of a model version and the trace of a recommendation: pages that work without a network.

`writing` stores a report beside its bundle. The figures are those of the evaluation and the walk-forward.
"""
