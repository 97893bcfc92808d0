"""Jobs: the whole graph, a retrain from the bars that are stored, and the daily update."""

import dagster as dg

HEAVY_MODULES = ["boursomatic_assets.definitions", "polars", "pandas", "lightgbm", "sklearn.metrics"]

# Each step in a process of its own, forked from one that has imported everything and started no thread.
isolated_executor = dg.multiprocess_executor.configured(
    {"start_method": {"forkserver": {"preload_modules": HEAVY_MODULES}}, "max_concurrent": 2}
)

whole_graph = dg.define_asset_job(
    "whole_graph",
    selection=dg.AssetSelection.all(),
    description="From the price source to a new active model version.",
    executor_def=dg.in_process_executor,
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets("features").downstream(),
    description="Features and everything after, from the bars already stored: nothing is fetched.",
    executor_def=dg.in_process_executor,
)

whole_graph_isolated = dg.define_asset_job(
    "whole_graph_isolated",
    selection=dg.AssetSelection.all(),
    description="The whole graph with each step in a process of its own, where a crash must not spread.",
    executor_def=isolated_executor,
)

daily_update = dg.define_asset_job(
    "daily_update",
    selection=dg.AssetSelection.assets("instruments", "price_bars", "features"),
    description="New sessions from the price source, and the features that follow from them: no model is trained.",
    executor_def=dg.in_process_executor,
)

JOBS = [daily_update, whole_graph, retrain, whole_graph_isolated]
