"""Speed of each stage, proofs on simulated prices, and fault tests, started by `boursomatic bench`.

They are part of a clone, not of the installed package. Shortened, they run as tests.
"""
