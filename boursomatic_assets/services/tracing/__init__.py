"""One recommendation traced back to its bars: each step is fetched from storage and computed again."""
