"""A matrix of numbers: each written in its cell, and shaded so that the eye finds the pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.page import (
    LINE,
    NARROWEST,
    SMALL,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    Page,
    number,
    shortened,
    styled,
    text_width,
    wrap,
)
from betavae_core.figures.palette import color_bar, ink_on, shade

MOST = 40  # rows, and columns
WIDEST, TALLEST, LOWEST = 0.8, 0.36, 0.15  # inches: a cell
LONGEST_NAME = 1.6  # inches: the names of rows are wrapped to it
HEADER, AXIS = 0.2, 0.17  # inches: what rows and numbers are; what columns are
BAR_GAP, BAR, BAR_LABELS = 0.12, 0.12, 0.4  # inches: the colour bar


@styled
def heatmap(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    labels: tuple[str, str],
    unit: str,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """`values` (R, C) as shaded cells with the numbers in them; NaN is an empty cell with a dash.

    rows, columns  the names of the R rows, from the top, and of the C columns, from the left
    labels         what the rows are, and what the columns are
    unit           what the numbers are, with their unit: above the cells
    limits         the values of the darkest and the lightest shade; else the least and the largest

    Numbers are left out where columns are too narrow for them. Raises UsageError when shapes
    disagree, for infinities, and where all values are NaN.
    """
    cells = _cells(values, rows, columns)
    low, high = _limits(cells) if limits is None else limits
    if not -np.inf < low < high < np.inf:
        raise UsageError(f"limits must be finite and ascend, got {limits}")
    down = [wrap(str(name), LONGEST_NAME, SMALL) for name in rows]
    corner = shortened(labels[0], LONGEST_NAME)
    left = max(text_width(corner), *(_width(line) for name in down for line in name)) + 0.08
    cell = min((TEXT_WIDTH - left - BAR_GAP - BAR - BAR_LABELS) / cells.shape[1], WIDEST)
    along, below = _column_names(columns, cell)
    lines = max(len(name) for name in down)
    room = (TEXT_HEIGHT - HEADER - below) / len(rows)
    tall = max(LOWEST, min(room, max(TALLEST, lines * LINE + 0.05)))
    width, height = cell * cells.shape[1], tall * len(rows)

    page = Page(left + width + BAR_GAP + BAR + BAR_LABELS, HEADER + height + below, title)
    page.text(left - 0.08, HEADER / 2 - 0.02, corner, ha="right")
    page.text(left, HEADER / 2 - 0.02, shortened(unit, max(width, NARROWEST - left)))
    axes = page.panel(left, HEADER, width, height)
    _draw_cells(axes, cells, low, high, cell)
    axes.set_yticks(range(len(rows)), ["\n".join(name) for name in down])
    axes.set_xticks(range(len(along)), along, rotation=90 if _too_wide(columns, cell) else 0)
    axes.set_xlabel(labels[1])
    axes.xaxis.set_label_coords(0.5, -(below - 0.14) / height)
    bar = page.panel(left + width + BAR_GAP, HEADER, BAR, height)
    color_bar(bar, low, high, "", most=max(1, int(height / (2 * LINE))), upright=True)
    return page.figure


def _cells(values: Any, rows: Sequence[str], columns: Sequence[str]) -> NDArray[np.float64]:
    cells = np.asarray(values, dtype=np.float64)
    if cells.shape != (len(rows), len(columns)) or cells.size == 0:
        raise UsageError(
            f"values must be one a row and column, ({len(rows)}, {len(columns)}), and at least "
            f"one, got {cells.shape}"
        )
    if max(cells.shape) > MOST:
        raise UsageError(f"values must be at most {MOST} rows and columns, got {cells.shape}")
    if np.isinf(cells).any() or np.isnan(cells).all():
        raise UsageError("values must be finite, or NaN where there is none, and not all NaN")
    return cells


def _limits(cells: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    return (low, high) if high > low else (low - 0.5, low + 0.5)  # a bar needs a length


def _width(text: str) -> float:
    return text_width(text, SMALL)


def _too_wide(columns: Sequence[str], cell: float) -> bool:
    """Whether a word in the name of a column is wider than a cell: then the names stand upright."""
    return max(_width(word) for name in columns for word in str(name).split()) > cell - 0.04


def _column_names(columns: Sequence[str], cell: float) -> tuple[list[str], float]:
    """The names of the columns, in lines, and the inches that they and their axis take."""
    if _too_wide(columns, cell):
        names = [shortened(str(name), LONGEST_NAME, SMALL) for name in columns]
        return names, max(map(_width, names)) + 0.1 + AXIS
    wrapped = [wrap(str(name), cell - 0.04, SMALL) for name in columns]
    return ["\n".join(name) for name in wrapped], max(map(len, wrapped)) * LINE + 0.1 + AXIS


def _draw_cells(
    axes: Axes, cells: NDArray[np.float64], low: float, high: float, cell: float
) -> None:
    colors = shade(cells, low, high)
    axes.imshow(colors, aspect="auto")
    axes.set_xticks(np.arange(1, cells.shape[1]) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, cells.shape[0]) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    texts = {
        place: "–" if np.isnan(value) else number(value) for place, value in np.ndenumerate(cells)
    }
    if max(map(_width, texts.values())) > cell - 0.04:
        return
    for (row, column), text in texts.items():
        words = axes.text(column, row, text, size=SMALL, ha="center", va="center_baseline")
        words.set_color(ink_on(colors[row, column]))
