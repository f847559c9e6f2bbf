"""Images in rows: even gaps between them, and labels above the columns that have room for one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betavae_core.figures.page import SMALL, Page, text_width

GAP = 0.03  # inches between images
LARGEST = 0.8  # inches: the side of an image


def draw_row(
    page: Page, cells: NDArray[np.float64], x: float, y: float, size: tuple[float, float]
) -> None:
    """The images `cells` (n, H, W[, 3]) from (x, y) to the right."""
    for column, cell in enumerate(cells):
        page.image(cell, x + column * (size[0] + GAP), y, size)


def label_columns(
    page: Page, labels: Sequence[str], x: float, y: float, size: tuple[float, float]
) -> None:
    """Labels centred at height y over a row of images that starts at x: as many as have room."""
    across = size[0] + GAP
    widest = max(text_width(label, SMALL) for label in labels) + 0.06
    for column in range(0, len(labels), _stride(len(labels), int(np.ceil(widest / across)))):
        page.text(x + column * across + size[0] / 2, y, labels[column], size=SMALL, ha="center")


def _stride(count: int, least: int) -> int:
    """Label every how many columns: at least `least`, and both ends and the middle if it can be."""
    reach = max((count - 1) // 2 if count % 2 else count - 1, 1)
    return next((n for n in range(least, reach + 1) if reach % n == 0), max(least, reach))
