"""From a recommendation back to its bars: each step computed again and compared with what was stored.

`recomputation` follows one number, `lineage` names columns and files, `tree` arranges what is shown. It is the
top room of `core`: it may import all others, and none imports it.
"""
