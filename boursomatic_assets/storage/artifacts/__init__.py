"""Files on disk or in an object store: panels, figures, model bundles, snapshots, fold results.

A file appears whole or not at all. `bundles` compares digests before anything of a model is used; `retention`
removes what is no longer needed.
"""
