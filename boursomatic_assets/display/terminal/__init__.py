"""Tables and closing words of the command line, for a terminal of 80 columns."""
