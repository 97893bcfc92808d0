"""What the command line offers beside running the graph, one module for each group of commands."""
