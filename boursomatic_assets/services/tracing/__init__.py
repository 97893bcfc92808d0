"""One recommendation followed back to the bars: each step fetched from where it is kept, and computed again."""
