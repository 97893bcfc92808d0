"""Training, predictions, threshold, baselines and the walk-forward."""
