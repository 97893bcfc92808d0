"""From usable bars to the three sets: the experiment, features, labels, splits.

`leaks` and `price_levels` hold the tests that these look neither ahead nor at other instruments nor at price
levels. How good a model is that learned from the sets is not known here.
"""
