"""From trained models to a recorded version: what vouches for them, the bundle, the gate, the row."""
