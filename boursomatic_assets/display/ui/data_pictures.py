"""Pictures of the data: label mix, coverage, and the sets in time."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl

from boursomatic_assets.display.ui.canvas import (
    FAINT,
    INK,
    SMALL,
    TEXT,
    WIDTH,
    blank_figure,
    draw_legend,
    frame_axes,
    name_rows,
    set_title,
    strip_axes,
    to_png,
    use_date_axis,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from matplotlib.axes import Axes

    # First session, last session, rows.
    Span = tuple[date, date, int]

# A bluish green and an orange-leaning red stay apart for colour-blind readers too.
CLASS_COLOURS = {"BUY": "#008866", "HOLD": "#b4b8bd", "SELL": "#cc3311"}
EXCHANGE_COLOURS = ("#3b6ea5", "#f0b94a", "#008866", "#cc3311", "#7d6ba8", "#b4b8bd")
SET_COLOUR, PURGE_COLOUR = "#3b6ea5", "#f0b94a"
# A narrower part has no room for its percentage.
NARROWEST_WITH_TEXT = 0.05
BAR_HEIGHT = 0.66


def label_mix_picture(mixes: Mapping[str, Mapping[str, int]]) -> bytes:
    """Draw the shares of BUY, HOLD and SELL in each set as stacked bars, from rows per class."""
    figure = blank_figure(WIDTH, 70 + 46 * len(mixes))
    axes = figure.add_subplot()
    strip_axes(axes)
    classes = list(dict.fromkeys(name for mix in mixes.values() for name in mix))
    for name in classes:
        axes.barh([0], [0], color=CLASS_COLOURS.get(name, FAINT), label=name)
    for row, mix in enumerate(mixes.values()):
        _stack(axes, row, mix)
    names = [f"{name}\n{sum(mix.values()):,} rows" for name, mix in mixes.items()]
    axes.set_yticks(range(len(mixes)), names, color=INK, fontsize=TEXT)
    axes.set_xticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(mixes) - 0.5, -0.5)
    draw_legend(figure, len(classes))
    return to_png(figure)


def _stack(axes: Axes, row: int, mix: Mapping[str, int]) -> None:
    total, left = sum(mix.values()), 0.0
    if not total:
        axes.text(0.5, row, "no rows", ha="center", va="center", color=FAINT, fontsize=TEXT)
        return
    for name, count in mix.items():
        share = count / total
        axes.barh(row, share, left=left, height=BAR_HEIGHT, color=CLASS_COLOURS.get(name, FAINT), edgecolor="white")
        if share >= NARROWEST_WITH_TEXT:
            ink = INK if name == "HOLD" else "white"
            axes.text(left + share / 2, row, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=10)
        left += share


def coverage_picture(content: pl.DataFrame) -> bytes:
    """Draw the number of symbols with bars over time, stacked by exchange.

    `content` has at least one row: `exchange`, `first` and `last` session of each symbol.
    """
    figure = blank_figure(WIDTH, 240)
    axes = figure.add_subplot()
    frame_axes(axes)
    end = content["last"].max()
    months = content.select(pl.date_range(pl.col("first").min(), pl.col("last").max(), "1mo")).to_series()
    moments = pl.concat([months, pl.Series([end], dtype=pl.Date)]).unique().sort()
    exchanges = content["exchange"].unique().sort().to_list()
    open_at = [content.filter((pl.col("first") <= each) & (pl.col("last") >= each)) for each in moments]
    counts = [[frame.filter(exchange=name).height for frame in open_at] for name in exchanges]
    colours = [EXCHANGE_COLOURS[number % len(EXCHANGE_COLOURS)] for number in range(len(exchanges))]
    axes.stackplot(moments.to_list(), counts, labels=exchanges, colors=colours, step="post", linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlim(moments[0], moments[-1] if len(moments) > 1 else moments[0] + timedelta(days=1))
    axes.set_ylabel("symbols with bars", color=INK, fontsize=TEXT)
    use_date_axis(axes, most_ticks=8)
    draw_legend(figure, len(exchanges))
    return to_png(figure)


def split_picture(spans: Mapping[str, tuple[date, date, int]]) -> bytes:
    """Draw the sets on one time line, with the purged gaps between them. `spans` is in time order."""
    figure = blank_figure(WIDTH, 90 + 44 * len(spans))
    axes = figure.add_subplot()
    frame_axes(axes)
    ordered = list(spans.items())
    gaps = [_draw_gap(axes, row, earlier, later) for row, (earlier, later) in enumerate(pairwise(ordered))]
    whole = (min(first for first, _, _ in spans.values()), max(last for _, last, _ in spans.values()))
    for row, span in enumerate(spans.values()):
        before = ordered[row - 1][1][1] if row else whole[0]
        after = ordered[row + 1][1][0] if row + 1 < len(ordered) else whole[1]
        _draw_span(axes, row, span, (whole[0], before, after, whole[1]))
    use_date_axis(axes, most_ticks=8)
    name_rows(axes, list(spans))
    set_title(axes, "\n".join(gaps))
    return to_png(figure)


def _draw_gap(axes: Axes, row: int, earlier: tuple[str, Span], later: tuple[str, Span]) -> str:
    """Shade the gap between two sets and return its length in words."""
    (_, last, _), (first, _, _) = earlier[1], later[1]
    days = (first - last).days
    names = f"between {earlier[0]} and {later[0]}"
    if days <= 0:
        return f"no gap {names}: they overlap"
    begin: Any = last + timedelta(days=1)
    axes.barh(row + 0.5, first - begin, left=begin, height=1 + BAR_HEIGHT, color=PURGE_COLOUR)
    return f"purged (shaded): {days} days {names}"


def _draw_span(axes: Axes, row: int, span: Span, free: tuple[date, date, date, date]) -> None:
    """Draw a set's bar and write its dates where there is most room: inside, or left or right of it.

    `free` holds the ends of the free space on the left and on the right.
    """
    first, last, rows = span
    start: Any = first
    stop: Any = last + timedelta(days=1)
    # Overlapping sets leave less room than their neighbours' dates say.
    left, right = min(free[1], first), max(free[2], stop)
    axes.barh(row, stop - start, left=start, height=BAR_HEIGHT, color=SET_COLOUR)
    places = {"center": last - first, "right": left - free[0], "left": free[3] - right}
    alignment = max(places, key=lambda name: places[name])
    anchors: dict[str, Any] = {"center": start + (stop - start) / 2, "right": left, "left": right}
    shifts = {"center": 0, "right": -6, "left": 6}
    style: dict[str, Any] = {"ha": alignment, "va": "center", "fontsize": SMALL}
    colour = "white" if alignment == "center" else INK
    at, shift = (anchors[alignment], row), (shifts[alignment], 0)
    text = f"{first} to {last}\n{rows:,} rows"
    axes.annotate(text, at, shift, textcoords="offset points", color=colour, **style)
