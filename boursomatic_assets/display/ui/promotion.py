"""What the promotion gate compared, as tables, lines and numbers that plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    "log_loss": "Log loss, nats (lower is better)",
    "matched_lift_buy": "BUY lift at equal volatility",
    "rank_ic": "Rank IC",
}
ACTIVATE = '{program} models activate {version} --why "..."'
_SHOWN = ("challenger", "champion", "difference", "low", "high", "upper_bound")


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
        {"figure": title, **{part: figures[name][part] for part in _SHOWN}}
        for name, title in TITLES.items()
        if name in figures
    ]
    return pl.DataFrame(rows, schema={"figure": pl.String(), **dict.fromkeys(_SHOWN, pl.Float64())})


def plotted(figures: Mapping[str, Any]) -> dict[str, float | int]:
    """Differences by name, for plots over versions. Undefined ones are left out."""
    if "sessions" not in figures:
        return {}
    differences = {f"{name}_difference": figures[name]["difference"] for name in TITLES}
    bound = {"log_loss_upper_bound": figures["log_loss"]["upper_bound"]}
    return {
        "common_sessions": figures["sessions"],
        **{name: value for name, value in {**differences, **bound}.items() if value is not None},
    }
