"""Model bundles, serving, contenders, the promotion gate and reproduction.

Files and rows of versions are written by `storage`; `services.training` records a version.
"""
