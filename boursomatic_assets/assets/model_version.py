"""The record of a training: a bundle that anyone can verify, and a row that becomes the active one or not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from boursomatic_assets.assets import (
    OWNERS,
    code_version,
    features,
    labels,
    market_data,
    metrics,
    models,
    predictions,
    splits,
)
from boursomatic_assets.assets.metrics import CLOSES_VERSION
from boursomatic_assets.core.dataset.experiment import Experiment
from boursomatic_assets.core.dataset.features import table_columns, with_derived_inputs
from boursomatic_assets.core.dataset.splits import judged_sets, split_panel
from boursomatic_assets.core.drift.reference import build_reference
from boursomatic_assets.core.market.bars import PANEL_KEY, fingerprint
from boursomatic_assets.core.models.training import FittedModel
from boursomatic_assets.core.portfolio.book import closes_of_books, labels_hold_closes
from boursomatic_assets.core.registry.bundle import build_bundle, sha256
from boursomatic_assets.core.registry.contenders import Contender, Unscored, last_label_end
from boursomatic_assets.core.registry.gate import Decision, decide
from boursomatic_assets.display.ui.metadata import markdown_table
from boursomatic_assets.display.ui.promotion import activation, comparison_table, plotted
from boursomatic_assets.errors import (
    ActiveModelChangedError,
    ConfigurationError,
    MissingArtifactError,
    ModelMismatchError,
    TamperedArtifactError,
)
from boursomatic_assets.storage.artifacts.bundles import (
    code_revision,
    open_bundle,
    package_versions,
    require_digests,
    save_bundle,
)
from boursomatic_assets.storage.artifacts.files import remove_folder
from boursomatic_assets.storage.artifacts.snapshots import CLOSES, PANEL, Snapshot, keep_snapshot, save_snapshot
from boursomatic_assets.storage.dagster.instance import (
    outdated_inputs,
    recorded_data_version,
    recorded_metadata,
    unmet_checks,
)
from boursomatic_assets.storage.dagster.resources import ExperimentResource, PlatformResource
from boursomatic_assets.storage.dagster.retries import retried
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.market_tables import read_features
from boursomatic_assets.storage.postgres.model_table import (
    ModelRow,
    active_version,
    active_versions,
    record_version,
)
from boursomatic_assets.storage.postgres.panels import Part
from boursomatic_assets.storage.postgres.trials_table import closes_version, name_version

# Dagster's blocking checks stop what follows in their own run only; these must have passed whatever the run.
REQUIRED_CHECKS = {
    key: tuple(check.keys_by_input_name.values())
    for check in (
        market_data.stored_bars_keep_the_contract,
        market_data.the_universe_has_arrived,
        features.values_are_possible,
        features.the_future_is_not_read,
        features.instruments_do_not_touch,
        features.features_follow_from_their_own_bars,
        labels.labels_end_after_their_session,
        labels.labels_follow_their_own_instrument,
        labels.labels_end_a_horizon_later,
        labels.no_label_outlives_its_instrument,
        labels.labels_carry_the_stored_features,
        labels.inputs_do_not_depend_on_price_level,
        labels.only_members_of_the_time,
        splits.sets_do_not_touch,
        splits.sets_are_rows_of_the_labels,
        splits.no_feature_knows_the_label,
        models.probabilities_sum_to_one,
        models.forecasts_are_finite,
        predictions.predictions_are_out_of_sample,
        predictions.the_test_set_is_not_read,
        metrics.figures_are_possible,
        metrics.prices_behind_the_figures_can_be,
    )
    for key in check.check_keys
}
_SHOWN = ("test_accuracy", "test_majority_accuracy", "test_sharpe_ratio", "test_equal_weight_sharpe_ratio")
_SETS = ("train_set", "validation_set", "test_set")
# What a version is made of must be of one piece: figures of these models, models of these sets, sets of one panel.
_MADE_FROM = {
    **{name: ["labels"] for name in _SETS},
    "classifier": ["train_set"],
    "regressor": ["train_set"],
    "feature_importance": ["classifier", "regressor"],
    "predictions": ["classifier", "regressor", "validation_set", "test_set", "labels"],
    "threshold": ["predictions"],
    "metrics": ["predictions", "threshold", "classifier", "train_set"],
}


@dg.asset(
    group_name="model_version",
    kinds={"postgres", "lightgbm"},
    owners=OWNERS,
    code_version=code_version(__name__, "model_version"),
    ins={"price_bars": dg.AssetIn(metadata={"recent": True, "columns": ["close", "exchange"]})},
    # Runs that train take turns, so that they leave room for those that bring bars.
    pool="training",
)
@retried
def model_version(  # noqa: PLR0913, PLR0917 (each input is an edge of the lineage)
    context: dg.AssetExecutionContext,
    classifier: FittedModel,
    regressor: FittedModel,
    labels: pl.DataFrame,
    price_bars: pl.DataFrame,
    predictions: pl.DataFrame,
    threshold: dict[str, Any],
    metrics: dict[str, Any],
    feature_importance: pl.DataFrame,
    experiment: ExperimentResource,
    platform: PlatformResource,
) -> dg.MaterializeResult[None]:
    """A verified bundle of both models with everything known about them: the active version, unless it is worse.

    Both the new version and the active one are scored on the sessions that neither has learned from; `gate` says
    what was decided and why. One that is refused is recorded and kept, and the active one stays.
    Refuses to record anything while a check that must hold does not.
    """
    evidence = _evidence(context, classifier, regressor, labels)
    settings, trained_at = experiment.value(), datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    closes = closes_of_books(price_bars, labels, predictions["session"].min())  # type: ignore[arg-type]
    _require_closes(context, closes)
    split = split_panel(labels, settings)
    judged = judged_sets({"validation": split.validation, "test": split.test}, labels, settings)
    kept = {PANEL: labels} if labels_hold_closes(closes, labels) else {PANEL: labels, CLOSES: closes}
    snapshots = {name: save_snapshot(platform.artifacts(), panel) for name, panel in kept.items()}
    reference = build_reference(split.train, predictions, settings)
    provenance: dict[str, Any] = {
        "trained_at": f"{trained_at.isoformat()}Z",
        "experiment": settings.model_dump(mode="json"),
        "params_hash": settings.params_hash,
        "training_data": evidence,
        "known_until": str(labels["session"].max()),
        "learned_until": str(last_label_end(split.train, judged["validation"])),
        **{name: snapshot.to_json() for name, snapshot in snapshots.items()},
        "threshold": {name: threshold[name] for name in ("tau", "reason", "temperature")},
        "universe": labels["symbol"].unique().sort().to_list(),
        "code": code_revision(),
        "packages": package_versions(),
        "run_id": context.run.run_id,
    }
    version, folder, digest = save_bundle(
        platform.artifacts(),
        trained_at,
        lambda version: build_bundle(
            classifier, regressor, metrics, feature_importance, {"version": version, **provenance}, reference
        ),
    )
    row = ModelRow(version, trained_at, settings.params_hash, metrics, str(folder), digest)
    try:
        decision = _decide_and_record(
            platform.database(),
            row,
            judged["test"],
            labels,
            settings,
            who=f"run {context.run.run_id}",
            # Pruned since, as no bundle had named it yet: this one does.
            beforehand=lambda: _keep(platform, snapshots, kept),
        )
    except BaseException:
        remove_folder(folder)
        raise
    name_version(platform.database(), settings.params_hash, closes_version(labels), version)
    return dg.MaterializeResult(
        metadata={
            "version": version,
            "promoted": decision.promoted,
            "gate": decision.reason,
            "replaces": _replaced(decision),
            "active_version": decision.active,
            **({} if decision.promoted else {"to_activate_it": activation(version)}),
            **plotted(decision.figures),
            **_comparison(decision),
            "params_hash": settings.params_hash,
            "manifest_sha256": digest,
            "path": dg.MetadataValue.path(str(folder)),
            "horizon": settings.horizon,
            "decision_rule": threshold["reason"],
            **{name: metrics[name] for name in _SHOWN if metrics[name] is not None},
            "preview": dg.MetadataValue.md(_files_table(str(folder), digest)),
            "experiment": dg.MetadataValue.json(provenance["experiment"]),
            "code": dg.MetadataValue.json({**code_revision(), **package_versions()}),
        },
        data_version=dg.DataVersion(sha256((digest + version).encode())),
    )


def _keep(platform: PlatformResource, snapshots: dict[str, Snapshot], panels: dict[str, pl.DataFrame]) -> None:
    for name, snapshot in snapshots.items():
        keep_snapshot(platform.artifacts(), snapshot, panels[name])


def _decide_and_record(  # noqa: PLR0913 (what is decided on, and how it is recorded)
    database: Database,
    row: ModelRow,
    test_rows: pl.DataFrame,
    labels: pl.DataFrame,
    experiment: Experiment,
    *,
    who: str,
    beforehand: Callable[[], object],
) -> Decision:
    """Hold a version against the active one, and record it with what was decided."""
    # As it was stored: what is judged is what will be served.
    challenger = Contender.of(open_bundle(row.model_path, row.manifest_sha256), labels)
    champion = _champion(active_version(database), labels)
    rows = _with_columns(database, test_rows, challenger, champion)
    decision = decide(challenger, champion, rows, experiment)
    decided = replace(row, is_active=decision.promoted, gate=decision.to_json())
    try:
        record_version(
            database, decided, who=who, why=decision.reason, champion=decision.champion, beforehand=beforehand
        )
    except ActiveModelChangedError:
        # Somebody has activated another one meanwhile: it is held against that one.
        return _decide_and_record(database, row, test_rows, labels, experiment, who=who, beforehand=beforehand)
    return decision


def _champion(active: ModelRow | None, labels: pl.DataFrame) -> Contender | Unscored | None:
    if active is None:
        return None
    if active.manifest_sha256 is None:
        return Unscored(active.version, "another program recorded it, without a bundle of this one")
    try:
        return Contender.of(open_bundle(active.model_path, active.manifest_sha256), labels)
    except (MissingArtifactError, TamperedArtifactError, ModelMismatchError, ConfigurationError) as error:
        # What cannot be scored cannot be served either.
        return Unscored(active.version, str(error).splitlines()[0].rstrip("."))


def _with_columns(
    database: Database, test_set: pl.DataFrame, challenger: Contender, champion: Contender | Unscored | None
) -> pl.DataFrame:
    """The judged rows of the test set, with the inputs that only the champion reads: stored or derived."""
    columns = [*challenger.columns, *(champion.columns if isinstance(champion, Contender) else [])]
    missing = sorted(set(columns) - set(test_set.columns))
    if not missing:
        return test_set
    part = Part(symbols=test_set["symbol"].unique().sort().to_list(), since=test_set["session"].min())  # type: ignore[arg-type]
    stored = [name for name in table_columns(missing) if name not in test_set.columns]
    found = test_set.join(read_features(database, stored, part), on=PANEL_KEY, how="left") if stored else test_set
    return with_derived_inputs(found, missing)


def _replaced(decision: Decision) -> str:
    if not decision.promoted:
        return f"nothing: {decision.champion} stays the active one"
    return decision.champion or "nothing: it is the first"


def _comparison(decision: Decision) -> dict[str, dg.MetadataValue]:
    return (
        {"gate_figures": dg.MetadataValue.md(markdown_table(comparison_table(decision.figures)))}
        if (decision.sessions)
        else {}
    )


def _evidence(
    context: dg.AssetExecutionContext, classifier: FittedModel, regressor: FittedModel, labels: pl.DataFrame
) -> dict[str, Any]:
    """Fingerprints of the data behind the models, once checks, lineage and digests have vouched for them."""
    outdated = outdated_inputs(context.instance, context.run.run_id, _MADE_FROM)
    if outdated:
        changed = {name: ", ".join(inputs) for name, inputs in outdated.items()}
        what = "from parts that do not belong together; inputs that changed"
        raise _refusal(what, changed, "Make them anew: boursomatic materialize --select features+")
    unmet = unmet_checks(context.instance, context.run.run_id, REQUIRED_CHECKS)
    if unmet:
        remedy = "Look at them in the UI, mend the cause, then: boursomatic materialize"
        what = "while these checks do not hold"
        raise _refusal(what, unmet, remedy)
    for name, model in (("classifier", classifier), ("regressor", regressor)):
        recorded = recorded_metadata(context.instance, context.run.run_id, name)
        require_digests(name, model, recorded["text_sha256"], recorded["pickle_sha256"])
    _require_recorded(context, labels)
    return {
        name: {
            key: recorded[key] for key in ("content_sha256", "dagster/row_count", "first_session", "last_session")
        }
        for name in _SETS
        for recorded in [recorded_metadata(context.instance, context.run.run_id, name)]
    }


def _require_recorded(context: dg.AssetExecutionContext, labels: pl.DataFrame) -> None:
    """Refuse a snapshot of other labels than those that the sets were cut from."""
    expected, found = recorded_data_version(context.instance, context.run.run_id, "labels"), fingerprint(labels)
    if found != expected:
        message = (
            f"labels are not what was stored: expected content {expected}, found {found}. Nothing was recorded.\n"
            "Make them anew: boursomatic materialize --select labels+"
        )
        raise TamperedArtifactError(message)


def _require_closes(context: dg.AssetExecutionContext, closes: pl.DataFrame) -> None:
    """Refuse closes that were rewritten since the figures were made of them: nobody could make these again."""
    expected = recorded_metadata(context.instance, context.run.run_id, "metrics").get(CLOSES_VERSION)
    found = fingerprint(closes)
    if found != expected:
        changed = {"price_bars": f"expected closes {expected or 'that none recorded'}, found {found}"}
        remedy = "Make them anew: boursomatic materialize --select features+"
        what = "with figures of other prices than those stored"
        raise _refusal(what, changed, remedy)


def _refusal(why: str, found: dict[str, str], remedy: str) -> dg.Failure:
    listed = "".join(f"\n  {name}: {text}" for name, text in found.items())
    message = f"no model version is recorded {why}:{listed}\n{remedy}"
    return dg.Failure(description=message, allow_retries=False)


def _files_table(folder: str, digest: str) -> str:
    files = open_bundle(folder, digest).manifest["files"]
    rows = [
        {"file": name, "bytes": file["bytes"], "sha256 begins": file["sha256"][:12]} for name, file in files.items()
    ]
    return markdown_table(pl.DataFrame(rows))


@dg.asset_check(asset=model_version, blocking=True)
def exactly_one_version_is_active(platform: PlatformResource) -> dg.AssetCheckResult:
    """One row of `model_versions` is active: the model that recommendations are made with."""
    active = active_versions(platform.database())
    return dg.AssetCheckResult(
        passed=len(active) == 1, metadata={"active": ", ".join(active) or "none", "active_versions": len(active)}
    )


@dg.asset_check(asset=model_version, blocking=True)
def the_bundle_is_what_was_recorded(platform: PlatformResource) -> dg.AssetCheckResult:
    """Every file of the active bundle has the digest that its manifest says, and the manifest the row's."""
    active = active_version(platform.database())
    if active is None:
        return dg.AssetCheckResult(passed=False, description="No version is active.")
    bundle = open_bundle(active.model_path, active.manifest_sha256)
    return dg.AssetCheckResult(passed=True, metadata={"version": active.version, "files": len(bundle.files)})
