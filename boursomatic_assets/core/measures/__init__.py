"""Formulas of single figures: a measure takes arrays or judged rows, a test gives an interval and a p-value.

`evaluation` decides which figures are reported together, and what follows from them.
"""
