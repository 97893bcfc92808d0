"""An evaluation as a table that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def figures_table(evaluation: Mapping[str, Any]) -> str:
    """Figures with interval, p-value, value without skill and baseline, as a Markdown table."""
    head = "| figure | value | 95 % interval | p | without skill | baseline | |\n|---|---|---|---|---|---|---|"
    rows = [
        f"| {figure['title']} | {shown(figure, 'value')} | {_interval(figure)} | {_p_value(figure['p_value'])} "
        f"| {shown(figure, 'no_skill')} | {shown(figure, 'baseline')} | {figure['baseline_is'] or ''} |"
        for figure in evaluation["figures"]
    ]
    return "\n".join([head, *rows])


def shown(figure: Mapping[str, Any], field: str) -> str:
    """One of a figure's numbers in its unit; empty where it has none, and why where its value is not defined."""
    number = figure[field]
    if number is None:
        return str(figure["why_undefined"]) if field == "value" else ""
    return f"{100 * number:.2f} %" if figure["unit"] == "percent" else f"{number:.3f}"


def _interval(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"{shown(figure, 'low')} to {shown(figure, 'high')}"


def _p_value(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.3f}"
