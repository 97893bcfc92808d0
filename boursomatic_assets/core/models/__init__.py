"""Training, predictions, the BUY threshold, baselines, and the walk-forward with its folds.

How a model is kept and when it becomes the active one is in `registry`.
"""
