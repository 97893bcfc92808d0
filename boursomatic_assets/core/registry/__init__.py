"""What a model version is, and which one is in use: bundle, serving, gate, reproduction.

A bundle vouches for its files; `serving` builds the row that a model reads today; `gate` compares two versions on
sessions that neither has learned from. Files and database rows are `storage`.
"""
