"""What all pictures share: colours, sizes, and small PNG files of 700 pixels width.

matplotlib is imported only where a picture is drawn, and without its global state. Every run stores its pictures:
a small palette keeps each at about 20 kB.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 700
DOTS_PER_INCH = 100
PALETTE_SIZE = 128

INK, FAINT, RULE = "#222222", "#666666", "#d0d0d0"
CLASSIFIER_COLOUR, REGRESSOR_COLOUR = "#0f5fa6", "#e08214"
SMALL, TEXT, LARGE = 8.0, 9.0, 11.0
MINUS = "\N{MINUS SIGN}"


def blank_figure(width: int, height: int) -> Figure:
    """Start a white figure; width and height are in pixels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (width / DOTS_PER_INCH, height / DOTS_PER_INCH)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    return Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white", layout=layout)


def to_png(figure: Figure) -> bytes:
    """Write a figure as PNG with a small palette."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB").quantize(PALETTE_SIZE, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def use_date_axis(axes: Axes, most_ticks: int) -> None:
    """Label the horizontal axis with dates. Each tick names its year."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=most_ticks)  # type: ignore[no-untyped-call]
    # Each tick names its year, and as much more as the ticks are apart.
    formats = ["%Y", "%Y-%m", "%Y-%m-%d", "%H:%M", "%H:%M", "%S"]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, formats=formats, zero_formats=formats, show_offset=False
    )
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def set_title(axes: Axes, text: str) -> None:
    """Write a title above the axes, on the left."""
    axes.set_title(text, loc="left", color=INK, fontsize=TEXT, linespacing=1.4)


def draw_legend(figure: Figure, entries: int) -> None:
    """Draw the legend above the axes, in one row."""
    figure.legend(loc="outside upper center", ncols=max(entries, 1), frameon=False, fontsize=TEXT, labelcolor=INK)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal bar chart, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=TEXT, labelcolor=INK)


def strip_axes(axes: Axes) -> None:
    """Remove the frame and the tick marks."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def write_instead(axes: Axes, sentence: str) -> None:
    """Write a sentence where there is nothing to draw."""
    strip_axes(axes)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=FAINT, fontsize=10, transform=axes.transAxes)


def frame_axes(axes: Axes) -> None:
    """Keep a faint frame on the left and below."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(color=RULE, labelcolor=FAINT, labelsize=SMALL)
