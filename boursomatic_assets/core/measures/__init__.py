"""Single figures and their inference: ranking, classification, calibration, performance."""
