"""Import path of the run launcher in the `dagster.yaml` of homes made before version 0.3.0."""

from boursomatic_assets.storage.dagster.run_launcher import WatchedRunLauncher

__all__ = ["WatchedRunLauncher"]
