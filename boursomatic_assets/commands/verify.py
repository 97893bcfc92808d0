"""The command `boursomatic verify`: train a recorded version again and compare, byte for byte."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands.opening import console, errors, open_database, print_json
from boursomatic_assets.settings import wait_briefly

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.registry.bundle import Bundle
    from boursomatic_assets.storage.postgres.database import Database
    from boursomatic_assets.storage.postgres.model_table import ModelRow


def verify(
    version: Annotated[str, typer.Argument(help="As `boursomatic models list` shows it, or active.")] = "active",
    *,
    against_database: Annotated[
        bool,
        typer.Option(
            "--against-database",
            help="Train nothing: show which bars have changed in the database since the training.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All results as JSON.")] = False,
) -> None:
    """Retrain a version from its snapshot and compare models and figures with the recorded ones, byte for byte.

    Ends with 0 if nothing differs, else with 1.

    For example:

      boursomatic verify

      boursomatic verify 20260102_030405_abcdef

      boursomatic verify --against-database
    """
    from boursomatic_assets.services.verification import open_recorded, recorded_version

    settings, database = open_database()
    row = recorded_version(database, version)
    bundle, labels, closes = open_recorded(row)
    if against_database:
        same = _show_changes(database, row, bundle, labels, as_json=as_json)
    else:
        same = _show_parts(row, bundle, labels, closes, settings.threads, as_json=as_json)
    if not same:
        raise typer.Exit(1)


def _show_parts(  # noqa: PLR0913 (a version, its two snapshots, and how to show them)
    row: "ModelRow",
    bundle: "Bundle",
    labels: "pl.DataFrame",
    closes: "pl.DataFrame | None",
    threads: int,
    *,
    as_json: bool,
) -> bool:
    from boursomatic_assets.core.registry.reproduction import compare_parts, environment_changes
    from boursomatic_assets.core.registry.retraining import retrain
    from boursomatic_assets.display.terminal.verification import parts_report
    from boursomatic_assets.storage.artifacts.bundles import code_revision, package_versions

    wait_briefly()
    with errors.status(f"Retraining {row.version} on {labels.height:,} rows as they were then"):
        parts = compare_parts(bundle, retrain(labels, bundle.experiment, threads, closes))
    changed = environment_changes(bundle.manifest, code_revision(), package_versions())
    identical = all(part.is_identical for part in parts)
    if as_json:
        report = {
            "version": row.version,
            "identical": identical,
            "parts": [{**asdict(part), "identical": part.is_identical} for part in parts],
            "changed_since": [asdict(change) for change in changed],
        }
        print_json(report)
    else:
        for shown in parts_report(row.version, parts, changed):
            console.print(shown, soft_wrap=True)
    return identical


def _show_changes(
    database: "Database", row: "ModelRow", bundle: "Bundle", labels: "pl.DataFrame", *, as_json: bool
) -> bool:
    from boursomatic_assets.core.registry.reproduction import changes_by_symbol, compare_panels
    from boursomatic_assets.display.terminal.verification import changes_report
    from boursomatic_assets.services.label_audit import labels_today

    with errors.status(f"Comparing {labels.height:,} rows of {row.version} with the database"):
        today = labels_today(database, bundle.experiment, labels["session"].min())  # type: ignore[arg-type]
        changes = compare_panels(labels, today, bundle.experiment.features)
    by_symbol = changes_by_symbol(changes)
    if as_json:
        report = {
            "version": row.version,
            "rows": labels.height,
            "changed_rows": changes.height,
            "symbols": by_symbol.to_dicts(),
            "bars": changes.to_dicts(),
        }
        print_json(report)
    else:
        for shown in changes_report(row.version, labels, by_symbol):
            console.print(shown, soft_wrap=True)
    return changes.is_empty()
