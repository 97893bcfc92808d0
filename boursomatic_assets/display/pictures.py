"""Pictures for the UI: small PNGs of the label mix, the split, the models, the book and the column lineage.

matplotlib is imported where a picture is drawn, and only its object-oriented part: no window, no global figure.
The pictures are stored with every run, so that each is written with a small palette: about 20 kB, that of the
lineage about 40.
"""

from __future__ import annotations

import base64
import io
from datetime import timedelta
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.features import FEATURE_NAMES
from boursomatic_assets.core.lineage import CLASS_TARGET, RETURN_TARGET, Column, column_dependencies, lineage_edges
from boursomatic_assets.core.market_data import BAR_SCHEMA
from boursomatic_assets.core.portfolio import drawdown, max_drawdown, total_return, wealth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from boursomatic_assets.core.portfolio import TrancheBook

    # First session, last session, rows.
    Span = tuple[date, date, int]

WIDTH, LINEAGE_WIDTH = 700, 1100
DOTS_PER_INCH = 100
PALETTE_SIZE = 128

INK, FAINT, RULE = "#222222", "#666666", "#d0d0d0"
# A bluish green and an orange-leaning red stay apart for colour-blind readers too.
CLASS_COLOURS = {"BUY": "#008866", "HOLD": "#b4b8bd", "SELL": "#cc3311"}
CLASSIFIER_COLOUR, REGRESSOR_COLOUR = "#0f5fa6", "#e08214"
WEALTH_COLOUR, DRAWDOWN_COLOUR = "#0f5fa6", "#cc3311"
SET_COLOUR, PURGE_COLOUR = "#3b6ea5", "#f0b94a"
SMALL, TEXT, LARGE = 8.0, 9.0, 11.0
MINUS = "\N{MINUS SIGN}"
# Lower end of the drawdown's axis for books that never fall.
SHALLOWEST = -0.01

# Below this share of a bar there is no room for its percentage.
NARROWEST_WITH_TEXT = 0.05
BAR_HEIGHT = 0.66
# From this share on a heat map's cell is so dark that its text is white.
DARK_CELL = 0.72


def label_mix_picture(mixes: Mapping[str, Mapping[str, int]]) -> bytes:
    """Draw the shares of BUY, HOLD and SELL in each set as stacked bars.

    Parameters
    ----------
    mixes : mapping of str to mapping of str to int
        Set name to rows per class.

    Returns
    -------
    bytes
        PNG, 700 pixels wide.
    """
    figure = _figure(WIDTH, 70 + 46 * len(mixes))
    axes = figure.add_subplot()
    _strip(axes)
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
    _legend(figure, len(classes))
    return _png(figure)


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


def confusion_picture(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> bytes:
    """Draw one confusion matrix per set: the count of each cell and its share of the true class.

    Parameters
    ----------
    matrices : mapping of str to sequence of sequence of int
        Set name to counts, rows the true class, columns the predicted one.
    classes : sequence of str
        Names of the rows and columns, in order.

    Returns
    -------
    bytes
        PNG, 700 pixels wide, up to three sets to a row. Darker cells hold more of their true class.
    """
    across = min(len(matrices), 3)
    down = -(-len(matrices) // 3)
    figure = _figure(WIDTH, 330 * down)
    for position, (name, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(down, across, position + 1)
        counts = np.asarray(matrix, dtype=np.int64)
        _heat_map(axes, counts)
        total, right = int(counts.sum()), int(np.trace(counts))
        accuracy = f"{right / total:.1%} of {total:,} rows right" if total else "no rows"
        leftmost = position % across == 0
        _title(axes, f"{name}\n{accuracy}")
        axes.set_xticks(range(len(classes)), classes, color=INK, fontsize=TEXT)
        axes.set_yticks(range(len(classes)), classes if leftmost else [], color=INK, fontsize=TEXT)
        axes.set_xlabel("predicted", color=FAINT, fontsize=TEXT)
        if leftmost:
            axes.set_ylabel("true", color=FAINT, fontsize=TEXT)
    return _png(figure)


def _heat_map(axes: Axes, counts: np.ndarray) -> None:
    from matplotlib import colormaps

    _strip(axes)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    # Short of the map's darkest end, so that text stands out on every cell.
    axes.imshow(shares, cmap=colormaps["Blues"], vmin=0.0, vmax=1.1)
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if shares[row, column] >= DARK_CELL else INK
        share = f"{shares[row, column]:.0%}" if rows[row, 0] else "-"
        style: dict[str, Any] = {"ha": "center", "color": ink}
        axes.text(column, row, f"{count:,}", va="bottom", fontsize=LARGE, **style)
        axes.text(column, row + 0.08, share, va="top", fontsize=TEXT, **style)


def equity_picture(books: Mapping[str, TrancheBook]) -> bytes:
    """Draw the wealth of each set's book, and below it its distance from the running peak.

    Parameters
    ----------
    books : mapping of str to TrancheBook
        Set name to its long-only book.

    Returns
    -------
    bytes
        PNG, 700 pixels wide, two sets to a row. A book that never held anything is a sentence.
    """
    across = min(len(books), 2)
    down = -(-len(books) // 2)
    figure = _figure(WIDTH, 320 * down)
    grid = figure.add_gridspec(2 * down, across, height_ratios=[3, 1.3] * down)
    # One scale for all sets: a tame book should not look as wild as another.
    held = [book.returns for book in books.values() if len(book.returns)]
    deepest = min(map(max_drawdown, held), default=0.0)
    first: Axes | None = None
    for position, (name, book) in enumerate(books.items()):
        row, column = divmod(position, 2)
        if len(book.returns):
            upper = figure.add_subplot(grid[2 * row, column], sharey=first)
            lower = figure.add_subplot(grid[2 * row + 1, column], sharex=upper)
            _draw_book(upper, lower, name, book)
            lower.set_ylim(min(1.1 * deepest, SHALLOWEST), 0.0)
            first = first or upper
        else:
            _draw_empty_book(figure.add_subplot(grid[2 * row : 2 * row + 2, column]), name)
    return _png(figure)


def _draw_book(upper: Axes, lower: Axes, name: str, book: TrancheBook) -> None:
    from matplotlib.ticker import MaxNLocator

    # The starting capital stands one day before the first session, so that the first return is seen.
    days: Any = [book.sessions[0] - timedelta(days=1), *book.sessions]
    upper.axhline(1.0, color=RULE, linewidth=0.8)
    upper.plot(days, wealth(book.returns), color=WEALTH_COLOUR, linewidth=1.4)
    lower.fill_between(days, drawdown(book.returns), 0.0, color=DRAWDOWN_COLOUR, alpha=0.45, linewidth=0)
    figures = f"{total_return(book.returns):+.1%} in total, deepest fall {max_drawdown(book.returns):.1%}"
    _title(upper, f"{name}: long-only, net of cost\n{figures.replace('-', MINUS)}")
    for axes, measure, most_ticks in ((upper, "wealth", 5), (lower, "drawdown", 3)):
        _frame(axes)
        _date_axis(axes, most_ticks=5)
        axes.set_ylabel(measure, color=FAINT, fontsize=SMALL)
        axes.yaxis.set_major_locator(MaxNLocator(most_ticks))
    upper.tick_params(labelbottom=False)
    lower.yaxis.set_major_formatter(lambda share, _: f"{100 * share + 0.0:g}%".replace("-", MINUS))


def _draw_empty_book(axes: Axes, name: str) -> None:
    _strip(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    _title(axes, f"{name}: long-only, net of cost\nno position")
    sentence = "No BUY call in this set:\nthe book never held anything."
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=FAINT, fontsize=10, transform=axes.transAxes)


def importance_picture(importance: pl.DataFrame) -> bytes:
    """Draw each feature's share of the total gain in both models.

    Parameters
    ----------
    importance : DataFrame
        `feature`, `classifier_gain` and `regressor_gain` (0 to 1), as `core.models.feature_importance` gives
        them; drawn in their order, the first on top.

    Returns
    -------
    bytes
        PNG, 700 pixels wide.
    """
    figure = _figure(WIDTH, 70 + 40 * importance.height)
    axes = figure.add_subplot()
    _strip(axes)
    rows = np.arange(importance.height)
    models = (("classifier", -0.2, CLASSIFIER_COLOUR), ("regressor", 0.2, REGRESSOR_COLOUR))
    for model, offset, colour in models:
        gains = importance[f"{model}_gain"].to_numpy()
        bars = axes.barh(rows + offset, gains, height=0.36, color=colour, label=model)
        axes.bar_label(bars, [f"{gain:.1%}" for gain in gains], padding=4, color=INK, fontsize=SMALL)
    axes.set_yticks(rows, importance["feature"].to_list(), color=INK, fontsize=TEXT)
    axes.set_xticks([])
    # Room for the figure that stands at the end of the longest bar.
    axes.margins(x=0.08)
    axes.set_ylim(importance.height - 0.5, -0.5)
    axes.set_xlabel("share of the model's total gain", loc="left", color=FAINT, fontsize=SMALL)
    _legend(figure, len(models))
    return _png(figure)


def split_picture(spans: Mapping[str, tuple[date, date, int]]) -> bytes:
    """Draw the sets on one time line, with the purged gaps between them.

    Parameters
    ----------
    spans : mapping of str to tuple of (date, date, int)
        One set or more: name to first session, last session and number of rows, in time order.

    Returns
    -------
    bytes
        PNG, 700 pixels wide.
    """
    figure = _figure(WIDTH, 90 + 44 * len(spans))
    axes = figure.add_subplot()
    _frame(axes)
    ordered = list(spans.items())
    gaps = [_draw_gap(axes, row, earlier, later) for row, (earlier, later) in enumerate(pairwise(ordered))]
    whole = (min(first for first, _, _ in spans.values()), max(last for _, last, _ in spans.values()))
    for row, span in enumerate(spans.values()):
        before = ordered[row - 1][1][1] if row else whole[0]
        after = ordered[row + 1][1][0] if row + 1 < len(ordered) else whole[1]
        _draw_span(axes, row, span, (whole[0], before, after, whole[1]))
    _date_axis(axes, most_ticks=8)
    axes.set_yticks(range(len(spans)), list(spans))
    axes.set_ylim(len(spans) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=TEXT, labelcolor=INK)
    _title(axes, "\n".join(gaps))
    return _png(figure)


def _draw_gap(axes: Axes, row: int, earlier: tuple[str, Span], later: tuple[str, Span]) -> str:
    """Shade what lies between the last session of one set and the first of the next; say how long it is."""
    (_, last, _), (first, _, _) = earlier[1], later[1]
    days = (first - last).days
    names = f"between {earlier[0]} and {later[0]}"
    if days <= 0:
        return f"no gap {names}: they overlap"
    begin: Any = last + timedelta(days=1)
    axes.barh(row + 0.5, first - begin, left=begin, height=1 + BAR_HEIGHT, color=PURGE_COLOUR)
    return f"purged (shaded): {days} days {names}"


def _draw_span(axes: Axes, row: int, span: Span, free: tuple[date, date, date, date]) -> None:
    """Draw a set's bar and write its dates where most room is: in it, or in what is free left or right of it.

    `free` is where the room on the left begins and ends, and where the room on the right begins and ends.
    """
    first, last, rows = span
    start: Any = first
    stop: Any = last + timedelta(days=1)
    # Sets that overlap leave less room than their neighbours' dates say.
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


# The stages of the lineage picture, left to right. The sets hold the columns of the labels, unchanged.
STAGES = (("price_bars",), ("features",), ("labels", "train_set"), ("classifier", "regressor"))
MODELS = STAGES[-1]
TARGETS = (CLASS_TARGET, RETURN_TARGET)
BOX_WIDTH, BOX_HEIGHT, OUTPUT_HEIGHT, PITCH = 160, 34, 22, 50
MARGIN, HEADER, FOOTER = 16, 56, 44
# Dark enough for a thin line on white; neighbours differ in hue and lightness.
LINE_COLOURS = (
    *("#7a1f52", "#117733", "#0f5fa6", "#e07b00"),
    *("#cc3311", "#332288", "#009988", "#aa4499", "#5c7a00", "#2f8fd0", "#8c510a", "#e0307a"),
    *("#555555", "#111111", "#6a51a3", "#1b7837"),
)
LINEAGE_CAPTION = (
    "A line has the colour of the column it leaves; dashed: what a model learns to predict. "
    "Columns that no model reads are left out."
)
# Stage and name: of a column, or of a model.
Box = tuple[int, str]


def lineage_picture(features: Sequence[str] = FEATURE_NAMES) -> bytes:
    """Draw how each column of the bars becomes features, labels and at last predictions.

    Parameters
    ----------
    features : sequence of str
        The experiment's features.

    Returns
    -------
    bytes
        PNG, 1,100 pixels wide. A line has the colour of the column it leaves; columns that no model reads are
        left out.
    """
    edges = _stage_edges(lineage_edges(MODELS, features))
    middles, height = _place_boxes(edges, features)
    names = dict.fromkeys(name for _, name in middles if name not in MODELS)
    colours = dict.fromkeys(MODELS, INK) | dict(zip(names, cycle(LINE_COLOURS), strict=False))
    figure = _figure(LINEAGE_WIDTH, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, LINEAGE_WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    _draw_lines(axes, edges, middles, colours)
    for box, middle in middles.items():
        _draw_box(axes, box, middle, colours[box[1]])
    style: dict[str, Any] = {"ha": "center", "va": "center"}
    for stage, assets in enumerate(STAGES):
        heading = "models" if assets == MODELS else " \N{RIGHTWARDS ARROW} ".join(assets)
        axes.text(_left(stage) + BOX_WIDTH / 2, HEADER / 2, heading, fontsize=12, color=FAINT, **style)
    axes.text(LINEAGE_WIDTH / 2, height - FOOTER / 2, LINEAGE_CAPTION, fontsize=TEXT, color=FAINT, **style)
    return _png(figure)


def _stage_edges(edges: Iterable[tuple[Column, Column]]) -> list[tuple[Box, Box]]:
    drawn = dict.fromkeys((_box(parent), _box(child)) for parent, child in edges)
    return [(parent, child) for parent, child in drawn if parent != child]


def _box(column: Column) -> Box:
    asset, name = column
    stage = next(position for position, assets in enumerate(STAGES) if asset in assets)
    return stage, asset if asset in MODELS else name


def _place_boxes(edges: Iterable[tuple[Box, Box]], features: Sequence[str]) -> tuple[dict[Box, float], int]:
    """Vertical middle of each box, and the height of the picture, in pixels.

    The two inner stages share their rows, so that a feature's line runs level; the outer two are spread.
    """
    margin = PITCH - BOX_HEIGHT
    order = [*BAR_SCHEMA, *column_dependencies("labels", features), *MODELS]
    found = sorted({box for edge in edges for box in edge}, key=lambda box: (box[0], order.index(box[1])))
    stages = [[box for box in found if box[0] == stage] for stage in range(len(STAGES))]
    whole = max(sum(_tall(box) + margin for box in boxes) for boxes in stages)
    placed = {}
    for stage, boxes in enumerate(stages):
        pitch = PITCH if 0 < stage < len(STAGES) - 1 else whole / max(len(boxes), 1)
        for row, box in enumerate(boxes):
            placed[box] = HEADER + pitch * (row + 0.5)
    return placed, HEADER + whole + FOOTER


def _tall(box: Box) -> int:
    return BOX_HEIGHT + OUTPUT_HEIGHT * len(_outputs(box))


def _outputs(box: Box) -> list[str]:
    return list(column_dependencies(box[1])) if box[1] in MODELS else []


def _draw_lines(
    axes: Axes, edges: Sequence[tuple[Box, Box]], middles: Mapping[Box, float], colours: Mapping[str, str]
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for child, middle in middles.items():
        parents = sorted((parent for parent, end in edges if end == child), key=middles.__getitem__)
        apart = min(9.0, (_tall(child) - 8) / max(len(parents), 1))
        for port, parent in enumerate(parents):
            end = middle + (port - (len(parents) - 1) / 2) * apart
            leave, arrive = _left(parent[0]) + BOX_WIDTH, _left(parent[0] + 1)
            bend = (leave + arrive) / 2
            begin = middles[parent]
            # A line that skips a stage passes it level, in a row that the stage leaves free.
            points = [(leave, begin), (bend, begin), (bend, end), (arrive, end), (_left(child[0]), end)]
            path = Path(points, [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO])
            learned = child[1] in MODELS and parent[1] in TARGETS
            style: dict[str, Any] = {"linestyle": (0, (4, 2))} if learned else {}
            axes.add_patch(PathPatch(path, fill=False, edgecolor=colours[parent[1]], linewidth=1.3, **style))


def _draw_box(axes: Axes, box: Box, middle: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    tall = _tall(box)
    left, top = _left(box[0]), middle - tall / 2
    shape = "round,pad=0,rounding_size=6"
    axes.add_patch(
        FancyBboxPatch(
            (left, top), BOX_WIDTH, tall, shape, facecolor="white", edgecolor=colour, linewidth=1.6, zorder=3
        )
    )
    centre = left + BOX_WIDTH / 2
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": INK, "zorder": 4}
    outputs = _outputs(box)
    axes.text(centre, top + BOX_HEIGHT / 2, box[1], fontsize=LARGE, weight="bold" if outputs else "normal", **style)
    for row, output in enumerate(outputs):
        axes.text(centre, top + BOX_HEIGHT + OUTPUT_HEIGHT * (row + 0.3), output, fontsize=10, **style)


def _left(stage: int) -> float:
    return MARGIN + stage * (LINEAGE_WIDTH - 2 * MARGIN - BOX_WIDTH) / (len(STAGES) - 1)


def embedded(png: bytes, alt: str) -> str:
    r"""Write a picture as Markdown that needs no file beside it.

    Parameters
    ----------
    png : bytes
    alt : str
        What the picture shows, for those who cannot see it.

    Returns
    -------
    str
        Image with a data URI.

    Examples
    --------
    >>> embedded(b"\x89PNG", "Label mix")
    '![Label mix](data:image/png;base64,iVBORw==)'
    """
    words = " ".join(alt.split()).replace("[", "(").replace("]", ")")
    return f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})"


def _figure(width: int, height: int) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (width / DOTS_PER_INCH, height / DOTS_PER_INCH)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    return Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white", layout=layout)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB").quantize(PALETTE_SIZE, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _date_axis(axes: Axes, most_ticks: int) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=most_ticks)  # type: ignore[no-untyped-call]
    # Each tick names its year, and as much more as the ticks are apart.
    formats = ["%Y", "%Y-%m", "%Y-%m-%d", "%H:%M", "%H:%M", "%S"]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, formats=formats, zero_formats=formats, show_offset=False
    )
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, fontsize=TEXT, linespacing=1.4)


def _legend(figure: Figure, entries: int) -> None:
    figure.legend(loc="outside upper center", ncols=max(entries, 1), frameon=False, fontsize=TEXT, labelcolor=INK)


def _strip(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(color=RULE, labelcolor=FAINT, labelsize=SMALL)
