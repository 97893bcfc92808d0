"""Whether new sessions look like those that a model learned from."""
