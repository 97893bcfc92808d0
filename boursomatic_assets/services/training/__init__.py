"""From trained models to a recorded version: checks, bundle, promotion gate, row."""
