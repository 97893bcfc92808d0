"""Bundles, serving, contenders, the promotion gate and reproduction."""
