"""What is shown of a recorded version: the gate's decision and comparison, the bundle's files, the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from rich.markup import escape

from boursomatic_assets.display.ui.metadata import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boursomatic_assets.core.registry.gate import GateDecision
    from boursomatic_assets.services.training.version import RecordedVersion

TITLES = {
    "log_loss": "Log loss, nats (lower is better)",
    "matched_lift_buy": "BUY lift at equal volatility",
    "rank_ic": "Rank IC",
}
ACTIVATE = '{program} models activate {version} --why "..."'
_COMPARED = ("challenger", "champion", "difference", "low", "high", "upper_bound")
_SHOWN = ("test_accuracy", "test_majority_accuracy", "test_sharpe_ratio", "test_equal_weight_sharpe_ratio")


def version_metadata(recorded: RecordedVersion) -> dict[str, Any]:
    """Metadata of the asset `model_version`."""
    row, manifest, decision = recorded.row, recorded.manifest, recorded.decision
    return {
        "version": row.version,
        **_gate(row.version, decision),
        "params_hash": row.params_hash,
        "manifest_sha256": row.manifest_sha256,
        "path": dg.MetadataValue.path(row.model_path),
        "horizon": manifest.experiment["horizon"],
        "decision_rule": manifest.threshold.reason,
        **{name: row.metrics[name] for name in _SHOWN if row.metrics[name] is not None},
        "preview": table(
            [
                {"file": name, "bytes": file.bytes, "sha256 begins": file.sha256[:12]}
                for name, file in manifest.files.items()
            ]
        ),
        "experiment": dg.MetadataValue.json(manifest.experiment),
        "code": dg.MetadataValue.json({**manifest.code, **manifest.packages}),
    }


def _gate(version: str, decision: GateDecision) -> dict[str, Any]:
    replaced = decision.champion or "nothing: it is the first"
    stays = f"nothing: {decision.champion} stays the active one"
    return {
        "promoted": decision.promoted,
        "gate": decision.reason,
        "replaces": replaced if decision.promoted else stays,
        "active_version": decision.active,
        **_plotted(decision.figures),
        **({} if decision.promoted else {"to_activate_it": activation(version)}),
        **({"gate_figures": table(comparison_table(decision.figures))} if decision.sessions else {}),
    }


def activation(version: str, program: str = "boursomatic") -> str:
    """The command that activates a version, whether or not the gate accepted it."""
    return ACTIVATE.format(program=program, version=version)


def outcome_lines(made: Mapping[str, Any], program: str) -> list[str]:
    """Which version is active after a training, as lines; `made` is metadata of `model_version` as plain values."""
    version, bundle = made["version"], f"Bundle: {escape(str(made['path']))}"
    if made["promoted"]:
        return [f"Active model version: [bold green]{version}[/bold green] (before: {made['replaces']})", bundle]
    return [
        f"New model version: [bold yellow]{version}[/bold yellow]. {escape(made['gate'])}",
        bundle,
        f"Active model version: [bold green]{made['active_version']}[/bold green] (as before)",
        f"Activate the new one all the same: [bold]{escape(activation(version, program))}[/bold]",
    ]


def comparison_table(figures: Mapping[str, Any]) -> pl.DataFrame:
    """A row per figure: both versions, their difference, its 95 % interval and upper bound."""
    rows = [
        {"figure": title, **{part: figures[name][part] for part in _COMPARED}}
        for name, title in TITLES.items()
        if name in figures
    ]
    return pl.DataFrame(rows, schema={"figure": pl.String(), **dict.fromkeys(_COMPARED, pl.Float64())})


def _plotted(figures: Mapping[str, Any]) -> dict[str, float | int]:
    """Differences by name, for plots over versions. Undefined ones are left out."""
    if "sessions" not in figures:
        return {}
    differences = {f"{name}_difference": figures[name]["difference"] for name in TITLES}
    bound = {"log_loss_upper_bound": figures["log_loss"]["upper_bound"]}
    return {
        "common_sessions": figures["sessions"],
        **{name: value for name, value in {**differences, **bound}.items() if value is not None},
    }
