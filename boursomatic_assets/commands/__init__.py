"""The command line, one module per command or group of commands; `cli` registers them.

A command reads its options, calls `services` or the graph, and prints with `display.terminal`. Heavy packages are
imported inside functions, so that `--help` answers at once.
"""
