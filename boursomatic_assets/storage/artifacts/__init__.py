"""Files on disk or in an object store: panels, figures, model bundles, snapshots, fold results.

Each file appears whole or not at all. `bundles` compares digests before use; `retention` removes old bundles.
"""
