"""Tables and closing words of the command line.

They fit a terminal of 80 columns. Which command prints what is decided in `commands`.
"""
