"""What the promotion gate compared, as tables and plots show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    "log_loss": "Log loss, nats (lower is better)",
    "matched_lift_buy": "BUY lift at equal volatility",
    "rank_ic": "Rank IC",
}
_SHOWN = ("challenger", "champion", "difference", "low", "high", "upper_bound")


def comparison_table(figures: Mapping[str, Any]) -> pl.DataFrame:
    """A row per figure of both versions: `figure`, the two, their difference, its 95 % interval and upper bound.

    Parameters
    ----------
    figures : mapping
        Of a decision; the table is empty where nothing was compared.
    """
    rows = [
        {"figure": title, **{part: figures[name][part] for part in _SHOWN}}
        for name, title in TITLES.items()
        if name in figures
    ]
    return pl.DataFrame(rows, schema={"figure": pl.String(), **dict.fromkeys(_SHOWN, pl.Float64())})


def plotted(figures: Mapping[str, Any]) -> dict[str, float | int]:
    """Differences by name, for metadata that is plotted over versions; what is undefined is left out."""
    if "sessions" not in figures:
        return {}
    differences = {f"{name}_difference": figures[name]["difference"] for name in TITLES}
    bound = {"log_loss_upper_bound": figures["log_loss"]["upper_bound"]}
    return {
        "common_sessions": figures["sessions"],
        **{name: value for name, value in {**differences, **bound}.items() if value is not None},
    }
