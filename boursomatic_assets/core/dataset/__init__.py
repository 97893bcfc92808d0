"""From usable bars to training, validation and test set: experiment, features, labels, splits.

`leaks` and `price_levels` test that features and labels read no future, no other instrument and no price level.
"""
