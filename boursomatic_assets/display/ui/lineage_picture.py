"""Column lineage from the price bars to both models, as one picture."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.features import DEFAULT_INPUTS, table_columns
from boursomatic_assets.core.market.bars import BAR_SCHEMA
from boursomatic_assets.core.trace.lineage import (
    CLASS_TARGET,
    RETURN_TARGET,
    Column,
    column_dependencies,
    lineage_edges,
)
from boursomatic_assets.display.ui.canvas import FAINT, INK, LARGE, TEXT, blank_figure, to_png

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

LINEAGE_WIDTH = 1100
# From left to right. The sets hold the columns of the labels, unchanged.
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
    "A line has the colour of its source column; dashed: what a model learns to predict. "
    "Columns that no model reads are left out."
)
# Stage, and name of a column or a model.
Box = tuple[int, str]


def lineage_picture(features: Sequence[str] = DEFAULT_INPUTS) -> bytes:
    """Draw how columns of the bars become features, labels and predictions. `features` are the experiment's inputs.

    A line has the colour of its source column. Columns that no model reads are left out.
    """
    drawn = dict.fromkeys((_box(parent), _box(child)) for parent, child in lineage_edges(MODELS, features))
    edges = [(parent, child) for parent, child in drawn if parent != child]
    middles, height = _place_boxes(edges, features)
    names = dict.fromkeys(name for _, name in middles if name not in MODELS)
    colours = dict.fromkeys(MODELS, INK) | dict(zip(names, cycle(LINE_COLOURS), strict=False))
    figure = blank_figure(LINEAGE_WIDTH, height)
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
    return to_png(figure)


def _box(column: Column) -> Box:
    asset, name = column
    stage = next(position for position, assets in enumerate(STAGES) if asset in assets)
    return stage, asset if asset in MODELS else name


def _place_boxes(edges: Iterable[tuple[Box, Box]], features: Sequence[str]) -> tuple[dict[Box, float], int]:
    """Vertical middle of each box, and the height of the picture, in pixels.

    The two inner stages share their rows, so that a feature's line is level. The outer two are spread.
    """
    margin = PITCH - BOX_HEIGHT
    # A feature stands in the row of the input that is derived from it.
    inputs = [column for name in features for column in (*table_columns([name]), name)]
    order = [*BAR_SCHEMA, *inputs, *column_dependencies("labels", features), *MODELS]
    boxes_in_order = sorted({box for edge in edges for box in edge}, key=lambda box: (box[0], order.index(box[1])))
    stages = [[box for box in boxes_in_order if box[0] == stage] for stage in range(len(STAGES))]
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
            # A line that skips a stage crosses it horizontally, in a free row or behind a derived input's feature.
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
