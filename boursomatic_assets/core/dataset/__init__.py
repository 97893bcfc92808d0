"""The experiment, features, labels and splits, and the checks that find look-ahead leaks in them.

Bars enter as `market` has checked them. Models are in `models`.
"""
