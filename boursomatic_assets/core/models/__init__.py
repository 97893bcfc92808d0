"""Training and prediction: both models, calibration's threshold, baselines, the folds of the walk-forward.

A fitted model is known by its LightGBM text and its inputs. Bundles of files, and which version serves, are
`registry`.
"""
