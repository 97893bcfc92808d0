"""Charts of the report: books, rank IC, calibration, precision by volatility, and costs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from boursomatic_assets.core.measures.performance import drawdown, wealth
from boursomatic_assets.display.report.canvas import (
    FAINT,
    Chart,
    Line,
    axis,
    layout,
    level,
    rounded,
    shortened,
    titled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Curves = Mapping[str, Any]
    Numbers = Sequence[float | None]

# Two books differ in colour and in dashes.
BOOKS = (
    Line("buy", "BUY calls", "var:--buy"),
    Line("long_short", "BUY less SELL calls", "var:--long-short"),
    Line("equal_weight", "Equal weight", "var:--equal-weight", "dash"),
    Line("benchmark", "Benchmark", "var:--benchmark", "dot"),
    Line("equal_weight_matched", "Equal weight in the same sessions", "var:--other", "longdashdot", shown=False),
    Line("volatility", "Volatility-only classifier", "var:--volatility", "dashdot", shown=False),
    Line("momentum", "12-1 momentum", "var:--momentum", "longdash", shown=False),
)


def book_line(name: str) -> Line:
    """The look of a book. All unknown books look the same."""
    known = {line.group: line for line in BOOKS}
    return known.get(name, Line(name, shortened(name.replace("_", " ")), "var:--other", "longdashdot"))


def rolling_mean(values: Numbers, window: int) -> list[float | None]:
    """Mean of the known values among the last `window`; None at the first `window - 1` places."""
    means = pl.Series(values, dtype=pl.Float64).rolling_mean(window, min_samples=1)
    return [None if place < window - 1 else mean for place, mean in enumerate(means)]


def books_chart(name: str, books: Curves) -> Chart | None:
    """Wealth of each book above its drawdown; None if no book has a session."""
    known = [line.group for line in BOOKS]
    order = sorted(books, key=lambda book: known.index(book) if book in known else len(known))
    lines = tuple(book_line(book) for book in order if (books[book] or {}).get("returns"))
    traces = [trace for line in lines for trace in _book_traces(line, books[line.group])]
    if not lines:
        return None
    shape = layout(
        520,
        hovermode="x unified",
        xaxis=axis(type="date", anchor="y2", showgrid=False, hoverformat="%Y-%m-%d", nticks=8),
        yaxis=axis(domain=[0.40, 1.0], nticks=6, title=titled("wealth")),
        yaxis2=axis(domain=[0.0, 0.30], nticks=4, tickformat=".0%", title=titled("drawdown")),
        shapes=[{**level(1.0), "yref": "y"}],
    )
    caption = (
        "Above: wealth from 1, daily returns net of cost. Below: fall from the running peak, the starting capital "
        "included. Click a book in the key to show or hide it."
    )
    return Chart(name, "Equity and drawdown", caption, traces, shape, lines)


def _book_traces(line: Line, book: Curves) -> list[dict[str, Any]]:
    # A session without a return leaves the wealth unchanged.
    returns = np.array([change or 0.0 for change in book["returns"]])
    common = {
        "type": "scatter",
        "mode": "lines",
        "x": list(book["sessions"]),
        "legendgroup": line.group,
        "name": line.label,
        "line": {"color": line.colour, "dash": line.dash, "width": 1.8 if line.group == "buy" else 1.3},
    }
    return [
        {**common, "y": rounded(wealth(returns)[1:].tolist()), "hovertemplate": "%{y:.3f}"},
        {**common, "y": rounded(drawdown(returns)[1:].tolist()), "yaxis": "y2", "hovertemplate": "%{y:.1%}"},
    ]


def rank_ic_chart(name: str, curve: Curves, window: int) -> Chart | None:
    """Rank IC of each session, and its rolling mean."""
    sessions, values = list(curve.get("sessions") or ()), list(curve.get("values") or ())
    if not any(value is not None for value in values):
        return None
    common = {"type": "scatter", "x": sessions, "hovertemplate": "%{x|%Y-%m-%d}: %{y:.3f}<extra></extra>"}
    each = {"mode": "markers", "marker": {"color": "var:--middle", "size": 3, "opacity": 0.55}}
    smooth = {"mode": "lines", "line": {"color": "var:--buy", "width": 2}, "connectgaps": False}
    lines = (
        Line("session", "Each session", "var:--middle", "dot"),
        Line("rolling", f"Mean of {window} sessions", "var:--buy"),
    )
    traces: list[dict[str, Any]] = [
        {**common, **each, "y": rounded(values), "legendgroup": "session"},
        {**common, **smooth, "y": rounded(rolling_mean(values, window)), "legendgroup": "rolling"},
    ]
    shape = layout(
        320, xaxis=axis(type="date", showgrid=False, nticks=8), yaxis=axis(nticks=6), shapes=[level(0.0)]
    )
    caption = "Correlation of the ranks of expected and realised returns within a session; 0 is no skill."
    return Chart(name, "Rank IC over time", caption, traces, shape, lines)


def rank_ic_by_year_chart(name: str, years: Sequence[Curves]) -> Chart | None:
    """Mean rank IC of each calendar year."""
    known = [year for year in years if year.get("mean") is not None]
    if not known:
        return None
    bars = {
        "type": "bar",
        # A year may have few sessions: the label says how many.
        "x": [f"{year['year']}<br>{year.get('sessions', 0)} sessions" for year in known],
        "y": rounded(year["mean"] for year in known),
        "marker": {"color": "var:--buy"},
        "hovertemplate": "%{x}: %{y:.4f}<extra></extra>",
    }
    shape = layout(
        300, bargap=0.45, xaxis=axis(type="category", showgrid=False), yaxis=axis(nticks=6), shapes=[level(0.0)]
    )
    return Chart(name, "Rank IC by year", "Mean over the sessions of each year; 0 is no skill.", [bars], shape)


def reliability_chart(name: str, bins: Sequence[Curves]) -> Chart | None:
    """Frequency of BUY against its predicted probability, above the rows of each bin."""
    known = [part for part in bins if part.get("probability") is not None and part.get("frequency") is not None]
    if not known:
        return None
    chances, happened = (rounded(part[key] for part in known) for key in ("probability", "frequency"))
    top = max(value for value in (*chances, *happened, 0.05) if value is not None) * 1.08
    common = {"x": chances, "customdata": [part.get("rows") for part in known]}
    hover = "predicted %{x:.1%}, observed %{y:.1%}, %{customdata:,} rows<extra></extra>"
    calibrated = {"type": "scatter", "mode": "lines", "x": [0, top], "y": [0, top], "hoverinfo": "skip"}
    spread = top / (4 * len(known))
    gaps = [after - before for before, after in pairwise(sorted(value or 0.0 for value in chances))]
    counts = {"type": "bar", "y": common["customdata"], "yaxis": "y2", "marker": {"color": "var:--middle"}}
    lines = (
        Line("calibrated", "Perfect calibration", "var:--faint", "dash"),
        Line("buy", "Observed", "var:--buy"),
        Line("rows", "Rows of the bin", "var:--middle"),
    )
    traces: list[dict[str, Any]] = [
        {**calibrated, "legendgroup": "calibrated", "line": {"color": FAINT, "dash": "dash", "width": 1}},
        {
            **common, "type": "scatter", "mode": "lines+markers", "y": happened, "legendgroup": "buy",
            "line": {"color": "var:--buy", "width": 2}, "marker": {"color": "var:--buy", "size": 7},
            "hovertemplate": hover,
        },
        {
            **common, **counts, "legendgroup": "rows", "width": min([spread, *(gap * 0.7 for gap in gaps if gap)]),
            "hovertemplate": "%{customdata:,} rows<extra></extra>",
        },
    ]  # fmt: skip
    shape = layout(
        380,
        xaxis=axis(
            range=[0, top], tickformat=".0%", anchor="y2", nticks=6, title=titled("predicted probability of BUY")
        ),
        yaxis=axis(domain=[0.32, 1.0], range=[0, top], tickformat=".0%", nticks=6, title=titled("share BUY")),
        yaxis2=axis(domain=[0.0, 0.22], nticks=3, rangemode="tozero", title=titled("rows")),
    )
    caption = "On the dashed line BUY occurs as often as predicted. Below it the predicted probability is too high."
    return Chart(name, "Calibration", caption, traces, shape, lines)


def decile_chart(name: str, deciles: Sequence[Curves]) -> Chart | None:
    """Precision of the BUY calls beside the base rate, by decile of volatility."""
    known = [part for part in deciles if part.get("base_rate") is not None or part.get("precision") is not None]
    if not known:
        return None
    numbers = [str(part["decile"]) for part in known]
    lines = (
        Line("precision", "Precision of the BUY calls", "var:--buy"),
        Line("base_rate", "BUY base rate", "var:--middle"),
    )
    traces = [
        {
            "type": "bar", "x": numbers, "y": rounded(part.get(line.group) for part in known),
            "legendgroup": line.group, "name": line.label, "marker": {"color": line.colour},
            "customdata": [part.get("calls") for part in known],
            "hovertemplate": "decile %{x}: %{y:.1%} (%{customdata:,} calls)<extra></extra>",
        }
        for line in lines
    ]  # fmt: skip
    shape = layout(
        380, barmode="group", bargap=0.3,
        xaxis=axis(type="category", showgrid=False, title=titled("decile of volatility, 10 the most volatile")),
        yaxis=axis(tickformat=".0%", rangemode="tozero", nticks=6),
    )  # fmt: skip
    caption = (
        "Skill is a precision above the base rate in the same decile. More calls of volatile stocks are no skill."
    )
    return Chart(name, "Precision at equal volatility", caption, traces, shape, lines)


def cost_chart(name: str, sweep: Sequence[Curves]) -> Chart | None:
    """Sharpe ratio of each book against the cost of a side."""
    known = [part for part in sweep if part.get("sharpe") is not None and part.get("cost_bps") is not None]
    lines = tuple(book_line(book) for book in dict.fromkeys(str(part["book"]) for part in known))
    if not lines:
        return None
    traces = []
    for line in lines:
        points = sorted((part["cost_bps"], part["sharpe"]) for part in known if str(part["book"]) == line.group)
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "x": [cost for cost, _ in points],
                "y": rounded(sharpe for _, sharpe in points), "legendgroup": line.group, "name": line.label,
                "line": {"color": line.colour, "dash": line.dash, "width": 2}, "marker": {"size": 7},
                "hovertemplate": "%{x} bp: %{y:.2f}<extra>" + line.label.replace("<", "") + "</extra>",
            }
        )  # fmt: skip
    shape = layout(
        300,
        xaxis=axis(title=titled("cost of a side, basis points"), nticks=7),
        yaxis=axis(nticks=6),
        shapes=[level(0.0)],
    )
    caption = "Sharpe ratio of the book's daily returns, net of the cost of every purchase and every sale."
    shown = tuple(Line(line.group, line.label, line.colour, line.dash) for line in lines)
    return Chart(name, "What trading costs", caption, traces, shape, shown)
