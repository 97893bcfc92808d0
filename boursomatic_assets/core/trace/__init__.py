"""From a recommendation back to its bars, each step computed again."""
