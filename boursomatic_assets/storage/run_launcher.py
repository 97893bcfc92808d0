"""Where homes made before version 0.3.0 look for the run launcher: their `dagster.yaml` names this module."""

from boursomatic_assets.storage.dagster.run_launcher import WatchedRunLauncher

__all__ = ["WatchedRunLauncher"]
