"""Speed of each stage, proofs on simulated prices, and storms of faults: started by `boursomatic bench`.

They lie beside the package, in a clone of its repository, and are not installed with it. Shortened, they run as
tests.
"""
