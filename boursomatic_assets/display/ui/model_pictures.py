"""Pictures of the models: confusion matrices, equity and drawdown of books, feature importance."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from boursomatic_assets.core.measures.performance import drawdown, max_drawdown, total_return, wealth
from boursomatic_assets.display.ui.canvas import (
    CLASSIFIER_COLOUR,
    FAINT,
    INK,
    LARGE,
    MINUS,
    REGRESSOR_COLOUR,
    RULE,
    SMALL,
    TEXT,
    WIDTH,
    blank_figure,
    draw_legend,
    frame_axes,
    set_title,
    strip_axes,
    to_png,
    use_date_axis,
    write_instead,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from matplotlib.axes import Axes

    from boursomatic_assets.core.portfolio.book import TrancheBook

WEALTH_COLOUR, DRAWDOWN_COLOUR = "#0f5fa6", "#cc3311"
# Lower end of the drawdown axis for books that never fall.
SHALLOWEST = -0.01
BAR_HEIGHT = 0.66
# From this share on, a cell is so dark that its text is white.
DARK_CELL = 0.72


def confusion_picture(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> bytes:
    """Draw one confusion matrix per set: each cell's count and its share of the true class.

    Rows are true classes, columns predicted ones. Darker cells hold more of their true class.
    """
    across = min(len(matrices), 3)
    down = -(-len(matrices) // 3)
    figure = blank_figure(WIDTH, 330 * down)
    for position, (name, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(down, across, position + 1)
        counts = np.asarray(matrix, dtype=np.int64)
        _heat_map(axes, counts)
        total, right = int(counts.sum()), int(np.trace(counts))
        accuracy = f"{right / total:.1%} of {total:,} rows right" if total else "no rows"
        leftmost = position % across == 0
        set_title(axes, f"{name}\n{accuracy}")
        axes.set_xticks(range(len(classes)), classes, color=INK, fontsize=TEXT)
        axes.set_yticks(range(len(classes)), classes if leftmost else [], color=INK, fontsize=TEXT)
        axes.set_xlabel("predicted", color=FAINT, fontsize=TEXT)
        if leftmost:
            axes.set_ylabel("true", color=FAINT, fontsize=TEXT)
    return to_png(figure)


def _heat_map(axes: Axes, counts: np.ndarray) -> None:
    from matplotlib import colormaps

    strip_axes(axes)
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    # Not up to the darkest colour, so that text is readable on every cell.
    axes.imshow(shares, cmap=colormaps["Blues"], vmin=0.0, vmax=1.1)
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if shares[row, column] >= DARK_CELL else INK
        share = f"{shares[row, column]:.0%}" if rows[row, 0] else "-"
        style: dict[str, Any] = {"ha": "center", "color": ink}
        axes.text(column, row, f"{count:,}", va="bottom", fontsize=LARGE, **style)
        axes.text(column, row + 0.08, share, va="top", fontsize=TEXT, **style)


def equity_picture(books: Mapping[str, TrancheBook]) -> bytes:
    """Draw the wealth of each book, and below it its drawdown; two books to a row.

    A book that never held anything is a sentence.
    """
    across = min(len(books), 2)
    down = -(-len(books) // 2)
    figure = blank_figure(WIDTH, 320 * down)
    grid = figure.add_gridspec(2 * down, across, height_ratios=[3, 1.3] * down)
    # One scale for all, so that books can be compared.
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
            whole = figure.add_subplot(grid[2 * row : 2 * row + 2, column])
            set_title(whole, f"{name}: net of cost\nno position")
            write_instead(whole, "No BUY call in this set:\nthe book never held anything.")
    return to_png(figure)


def _draw_book(upper: Axes, lower: Axes, name: str, book: TrancheBook) -> None:
    from matplotlib.ticker import MaxNLocator

    # The starting capital is drawn one day before the first session, so that the first return is visible.
    days: Any = [book.sessions[0] - timedelta(days=1), *book.sessions]
    upper.axhline(1.0, color=RULE, linewidth=0.8)
    upper.plot(days, wealth(book.returns), color=WEALTH_COLOUR, linewidth=1.4)
    lower.fill_between(days, drawdown(book.returns), 0.0, color=DRAWDOWN_COLOUR, alpha=0.45, linewidth=0)
    figures = f"{total_return(book.returns):+.1%} in total, deepest fall {max_drawdown(book.returns):.1%}"
    set_title(upper, f"{name}: net of cost\n{figures.replace('-', MINUS)}")
    for axes, measure, most_ticks in ((upper, "wealth", 5), (lower, "drawdown", 3)):
        frame_axes(axes)
        use_date_axis(axes, most_ticks=5)
        axes.set_ylabel(measure, color=FAINT, fontsize=SMALL)
        axes.yaxis.set_major_locator(MaxNLocator(most_ticks))
    upper.tick_params(labelbottom=False)
    lower.yaxis.set_major_formatter(lambda share, _: f"{100 * share + 0.0:g}%".replace("-", MINUS))


def importance_picture(importance: pl.DataFrame) -> bytes:
    """Draw each feature's share of the total gain in both models, in the order of the rows."""
    figure = blank_figure(WIDTH, 70 + 40 * importance.height)
    axes = figure.add_subplot()
    strip_axes(axes)
    rows = np.arange(importance.height)
    models = (("classifier", -0.2, CLASSIFIER_COLOUR), ("regressor", 0.2, REGRESSOR_COLOUR))
    for model, offset, colour in models:
        gains = importance[f"{model}_gain"].to_numpy()
        bars = axes.barh(rows + offset, gains, height=0.36, color=colour, label=model)
        axes.bar_label(bars, [f"{gain:.1%}" for gain in gains], padding=4, color=INK, fontsize=SMALL)
    axes.set_yticks(rows, importance["feature"].to_list(), color=INK, fontsize=TEXT)
    axes.set_xticks([])
    # Room for the number at the end of the longest bar.
    axes.margins(x=0.08)
    axes.set_ylim(importance.height - 0.5, -0.5)
    axes.set_xlabel("share of the model's total gain", loc="left", color=FAINT, fontsize=SMALL)
    draw_legend(figure, len(models))
    return to_png(figure)
