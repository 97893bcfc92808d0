"""One figure, one function: ranking, classification, calibration, performance, and inference on means that overlap.

A measure takes arrays or a frame of judged rows and returns a value, with an interval and a p-value where there
is a test. Which figures are reported together, and what follows from them, is `evaluation`. `overlap_reference`
has exact quantiles.
"""
