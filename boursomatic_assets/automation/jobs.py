"""Jobs: the whole graph, a retrain, recommendations, the folds of the walk-forward, and the daily update."""

import dagster as dg

HEAVY_MODULES = ["boursomatic_assets.definitions", "polars", "pandas", "lightgbm", "sklearn.metrics"]

# Each step in its own process, forked from one that has imported everything and started no thread.
isolated_executor = dg.multiprocess_executor.configured(
    {"start_method": {"forkserver": {"preload_modules": HEAVY_MODULES}}, "max_concurrent": 2}
)

# Partitioned assets need their own job: a run trains one fold, or a range of them.
walk_forward_assets = dg.AssetSelection.assets("walk_forward", "walk_forward_summary")
without_folds = dg.AssetSelection.all() - walk_forward_assets

whole_graph = dg.define_asset_job(
    "whole_graph",
    selection=without_folds,
    description="From the price source to a new model version, active unless the gate refuses it, with its report "
    "and its recommendations, without the walk-forward. Before the first walk-forward Dagster asks about "
    "walk_forward_summary: confirm. The report then says that it is missing.",
    executor_def=dg.in_process_executor,
)

retrain = dg.define_asset_job(
    "retrain",
    selection=dg.AssetSelection.assets("features").downstream()
    & dg.AssetSelection.assets("model_version").upstream(),
    description="A new model version from the stored bars, active unless the gate refuses it. Nothing is fetched, "
    "and only the figures that a version records are computed.",
    executor_def=dg.in_process_executor,
)

whole_graph_isolated = dg.define_asset_job(
    "whole_graph_isolated",
    selection=without_folds,
    description="The whole graph, without the walk-forward, each step in its own process, so that a crash does not "
    "spread.",
    executor_def=isolated_executor,
)

# Job and asset names must differ in Dagster.
walk_forward_folds = dg.define_asset_job(
    "walk_forward_folds",
    selection=dg.AssetSelection.assets("walk_forward"),
    description="The experiment trained again through time, one run a fold: launch a backfill of some folds or of "
    "all, then materialize walk_forward_summary.",
    executor_def=dg.in_process_executor,
)

recommend = dg.define_asset_job(
    "recommend",
    selection=dg.AssetSelection.assets("recommendations"),
    description="Recommendations of the active model on the newest features: nothing is fetched, nothing trained.",
    executor_def=dg.in_process_executor,
)

features_of_new_bars = dg.define_asset_job(
    "features_of_new_bars",
    selection=dg.AssetSelection.assets("features"),
    description="Features of the stored bars: only symbols whose bars have changed are computed again.",
    executor_def=dg.in_process_executor,
)

recommend_and_judge = dg.define_asset_job(
    "recommend_and_judge",
    selection=dg.AssetSelection.assets("recommendations", "outcomes", "drift"),
    description="Recommendations of the active model on the newest features, outcomes of those whose horizon has "
    "passed, and drift of the newest sessions: nothing is fetched, nothing trained.",
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
