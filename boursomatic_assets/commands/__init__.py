"""The command line: one module per command or group of commands; `cli` registers them.

A command reads its options, calls `services` or the graph, and prints with `display.terminal`. Functions import
heavy packages themselves, so that `--help` answers at once.
"""
