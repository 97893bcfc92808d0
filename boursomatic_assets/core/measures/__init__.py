"""One function for each figure, and its inference: ranking, classification, calibration, performance.

No figure is reported here: `evaluation` sets them beside each other.
"""
