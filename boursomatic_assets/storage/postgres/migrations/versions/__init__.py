"""One file a schema revision, each adding and never dropping."""
