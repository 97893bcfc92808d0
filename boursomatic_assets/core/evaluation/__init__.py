"""Every figure of a model beside its baseline, the verdict, and whether figures and prices are plausible.

The formulas are in `measures`.
"""
