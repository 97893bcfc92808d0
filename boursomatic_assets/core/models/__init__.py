"""Training and prediction: both models, the BUY threshold, baselines, and the folds of the walk-forward.

A fitted model is its LightGBM text and its inputs. Bundles and serving are in `registry`.
"""
