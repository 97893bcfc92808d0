"""The numbers: pure functions of frames and values.

No framework, database, network, clock or environment. A room imports only from the rooms below it: market,
dataset, measures, portfolio, models, evaluation and drift, registry, recommendations, trace. Feature code
therefore cannot reach labels.
"""
