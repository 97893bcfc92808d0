"""The numbers: pure functions without framework, database, network, clock or environment.

Modules import only upstream along the lineage (market_data, features, experiment, labels, splits, models,
portfolio, metrics, model_version), so that feature code cannot reach label code.
"""
