"""Files, bundles and snapshots."""
