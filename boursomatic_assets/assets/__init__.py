"""The lineage graph: one module per group of assets, with its checks beside it.

An asset reads its inputs, calls a function of `core` or `services`, and returns a value with metadata. No number
is computed here. Tables and pictures for the UI come from `display.ui`; values are stored by `storage.dagster`.
"""

from datetime import timedelta

import dagster as dg

from boursomatic_assets.code_versions import code_version

__all__ = ["FRESHNESS", "OWNERS", "code_version"]

OWNERS = ["team:data"]
# A long weekend passes without a new session on either continent.
FRESH_FOR = timedelta(days=5)
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR, warn_window=FRESH_FOR - timedelta(days=1))
