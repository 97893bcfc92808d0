"""From trained models to a recorded version: checks of the parts, the bundle, the promotion gate, the row."""
