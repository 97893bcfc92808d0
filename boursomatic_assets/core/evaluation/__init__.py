"""Every figure of a model beside its baseline, the verdict and its plausibility."""
