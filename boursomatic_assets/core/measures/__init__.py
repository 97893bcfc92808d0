"""Formulas of single figures. A measure takes arrays or judged rows; a test gives an interval and a p-value.

Which figures are reported together, and what follows from them, belongs to `evaluation`.
"""
