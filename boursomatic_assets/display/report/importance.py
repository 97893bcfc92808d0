"""Charts of feature importance: gain of the splits, and SHAP contributions to the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.display.report.canvas import Chart, Line, axis, layout, level, rounded, shortened, titled

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.models.contributions import Contributions

SWARM_ROWS = 300
_ROW_HEIGHT, _AROUND = 34, 90
_CLASS_LINES = {
    "BUY": Line("BUY", "to BUY", "var:--class-buy"),
    "HOLD": Line("HOLD", "to HOLD", "var:--class-hold"),
    "SELL": Line("SELL", "to SELL", "var:--class-sell"),
}


@dataclass(frozen=True)
class ReportImportance:
    """Shares of gain from the asset `feature_importance`, and SHAP values of a fixed sample of test rows."""

    gains: pl.DataFrame
    classifier: Contributions | None = None


def importance_charts(importance: ReportImportance) -> list[Chart]:
    """Gain, mean contribution by class, and the contributions to BUY row by row."""
    contributions = importance.classifier
    charts = [gain_chart(importance.gains)] if importance.gains.height else []
    if contributions is not None and len(contributions.values) and contributions.feature_names:
        charts += [contribution_chart(contributions), swarm_chart(contributions)]
    return charts


def gain_chart(gains: pl.DataFrame) -> Chart:
    """Each feature's share of the gain of all splits, in both models."""
    lines = (
        Line("classifier_gain", "Classifier", "var:--buy"),
        Line("regressor_gain", "Regressor", "var:--long-short"),
    )
    traces = [
        _bars(line, gains["feature"].to_list(), gains[line.group].to_list(), "%{x:.1%}", line.label)
        for line in lines
        if line.group in gains.columns
    ]
    caption = "Share of the gain of all splits in training: what the trees use, not whether it helps."
    return Chart("importance_gain", "Gain", caption, traces, _by_feature(gains.height, ".0%"), lines)


def contribution_chart(contributions: Contributions) -> Chart:
    """Mean absolute contribution of each feature to the score of each class."""
    ranked = contributions.mean_absolute()
    lines = tuple(
        _CLASS_LINES.get(name, Line(name, f"to {name}", "var:--other")) for name in contributions.output_names
    )
    traces = [
        _bars(line, ranked["feature"].to_list(), ranked[line.group].to_list(), "%{x:.4f}", line.label)
        for line in lines
    ]
    rows = f"over {len(contributions.values):,} rows of the test set"
    caption = f"SHAP: mean absolute contribution of a feature to the log-odds of a class, {rows}."
    shape = {**_by_feature(ranked.height, ""), "barmode": "stack"}
    return Chart("importance_shap", "Contribution to the predictions", caption, traces, shape, lines)


def swarm_chart(contributions: Contributions) -> Chart:
    """A dot per row and feature: its contribution to the first class, coloured by the feature's value."""
    output = contributions.output_names[0]
    names = contributions.mean_absolute()["feature"].to_list()
    chosen = np.unique(np.linspace(0, len(contributions.values) - 1, SWARM_ROWS).round().astype(np.int64))
    values = contributions.values[chosen, 0]
    trace: dict[str, Any] = {"type": "scatter", "mode": "markers", "x": [], "y": [], "hoverinfo": "x"}
    shades: list[float | None] = []
    for place, name in enumerate(names):
        column = contributions.feature_names.index(name)
        trace["x"] += rounded(values[:, column].tolist())
        trace["y"] += rounded((place + _heights(values[:, column])).tolist())
        shades += rounded(_ranks(contributions.inputs[chosen, column]).tolist())
    trace["marker"] = {
        "size": 4, "opacity": 0.8, "color": shades, "cmin": 0, "cmax": 1,
        "colorscale": [[0, "var:--low"], [0.5, "var:--middle"], [1, "var:--high"]],
    }  # fmt: skip
    ticks = {"tickvals": list(range(len(names))), "ticktext": [shortened(name, 20) for name in names]}
    shape = {
        **_by_feature(len(names), ""),
        "yaxis": axis(range=[len(names) - 0.5, -0.5], showgrid=False, **ticks),
        "xaxis": axis(nticks=6, title=titled(f"added to the log-odds of {output}")),
        "shapes": [level(0.0, vertical=True)],
    }
    caption = (
        f"A dot is a row of the test set: what the feature adds to the log-odds of {output}. Blue dots have low "
        "values of the feature among these rows, orange ones high values."
    )
    return Chart("importance_swarm", f"Which way each feature pulls: {output}", caption, [trace], shape)


def _bars(line: Line, names: list[str], values: list[float], form: str, label: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "x": rounded(values),
        "y": [shortened(name, 20) for name in names],
        "legendgroup": line.group,
        "name": line.label,
        "marker": {"color": line.colour},
        "hovertemplate": "%{y}: " + form + f"<extra>{label}</extra>",
    }


def _by_feature(features: int, form: str) -> dict[str, Any]:
    """Layout with the features from top to bottom."""
    return layout(
        _AROUND + _ROW_HEIGHT * max(features, 1),
        barmode="group",
        bargap=0.3,
        xaxis=axis(tickformat=form, nticks=6, rangemode="tozero"),
        yaxis=axis(type="category", autorange="reversed", showgrid=False),
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value, from 0 (lowest) to 1 (highest); 0.5 for missing values."""
    known = np.isfinite(values)
    places = np.full(len(values), 0.5)
    order = np.sort(values[known])
    if len(order) > 1:
        places[known] = np.searchsorted(order, values[known]) / (len(order) - 1)
    return places


def _heights(values: np.ndarray, bins: int = 60) -> np.ndarray:
    """Vertical offsets that keep dots from covering each other: up to 0.38 above and below their line."""
    width = (values.max() - values.min()) / bins or 1.0
    cells = np.floor((values - values.min()) / width).astype(np.int64)
    counts = np.bincount(cells)
    heights, met = np.zeros(len(values)), np.zeros(len(counts))
    for row, cell in enumerate(cells):
        side = 1 if met[cell] % 2 else -1
        heights[row] = side * np.ceil(met[cell] / 2)
        met[cell] += 1
    return np.asarray(heights * min(0.38 / max(float(counts.max()) / 2, 1.0), 0.08))
