"""The instance, IO managers and resources."""
