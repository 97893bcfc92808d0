"""Price sources behind one Protocol: a provider is one file here and one line in `registry`."""
