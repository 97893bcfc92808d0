"""Tables and closing words of the command line."""
