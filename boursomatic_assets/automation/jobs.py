"""Jobs: the whole graph, a retrain, recommendations, the folds of the walk-forward, and the daily update."""

import dagster as dg

HEAVY_MODULES = ["boursomatic_assets.definitions", "polars", "pandas", "lightgbm", "sklearn.metrics"]

# Each step in a process of its own, forked from one that has imported everything and started no thread.
isolated_executor = dg.multiprocess_executor.configured(
    {"start_method": {"forkserver": {"preload_modules": HEAVY_MODULES}}, "max_concurrent": 2}
)

# A run trains one fold, or a range of them: what has partitions has a job of its own.
walk_forward_assets = dg.AssetSelection.assets("walk_forward", "walk_forward_summary")
without_folds = dg.AssetSelection.all() - walk_forward_assets

whole_graph = dg.define_asset_job(
    "whole_graph",
    selection=without_folds,
    description="From the price source to a new model version, active unless the gate refuses it, its report and "
    "its recommendations, without the walk-forward. Before the first walk-forward Dagster asks about "
    "walk_forward_summary: confirm; the report says that it is missing.",
    executor_def=dg.in_process_executor,
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets("features").downstream()
    & dg.AssetSelection.assets("model_version").upstream(),
    description="A new model version from the bars already stored, active unless the gate refuses it, by the "
    "shortest way: nothing is fetched, and nothing is judged beyond what a version records.",
    executor_def=dg.in_process_executor,
)

whole_graph_isolated = dg.define_asset_job(
    "whole_graph_isolated",
    selection=without_folds,
    description="The whole graph, without the walk-forward, each step in a process of its own: where a crash must "
    "not spread.",
    executor_def=isolated_executor,
)

# Not the asset's own name: Dagster wants the names of jobs and of assets apart.
walk_forward_folds = dg.define_asset_job(
    "walk_forward_folds",
    selection=dg.AssetSelection.assets("walk_forward"),
    description="The experiment trained again through time, one run a fold: launch a backfill of some folds or of "
    "all, then materialize walk_forward_summary.",
    executor_def=dg.in_process_executor,
)

# Not the asset's own name here either.
recommend = dg.define_asset_job(
    "recommend",
    selection=dg.AssetSelection.assets("recommendations"),
    description="Recommendations of the active model on the newest features: nothing is fetched, nothing trained.",
    executor_def=dg.in_process_executor,
)

features_of_new_bars = dg.define_asset_job(
    "features_of_new_bars",
    selection=dg.AssetSelection.assets("features"),
    description="Features of the bars already stored: only symbols whose bars have changed are computed again.",
    executor_def=dg.in_process_executor,
)

recommend_and_judge = dg.define_asset_job(
    "recommend_and_judge",
    selection=dg.AssetSelection.assets("recommendations", "outcomes", "drift"),
    description="Recommendations of the active model on the newest features, what became of those whose horizon "
    "has passed, and whether the newest sessions still look like those before them: nothing is fetched, nothing "
    "trained.",
    executor_def=dg.in_process_executor,
)

daily_update = dg.define_asset_job(
    "daily_update",
    selection=dg.AssetSelection.assets("instruments", "price_bars", "features"),
    description="New sessions from the price source, and the features that follow from them: no model is trained.",
    executor_def=dg.in_process_executor,
)

JOBS = [
    daily_update, features_of_new_bars, whole_graph, retrain, recommend, recommend_and_judge, walk_forward_folds,
    whole_graph_isolated,
]  # fmt: skip
