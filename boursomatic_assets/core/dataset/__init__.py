"""The experiment, features, labels and splits, and the tests for look-ahead leaks."""
