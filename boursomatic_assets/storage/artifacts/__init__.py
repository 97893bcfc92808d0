"""Files below the artifacts folder: bundles, snapshots, folds, and what may be removed of them."""
