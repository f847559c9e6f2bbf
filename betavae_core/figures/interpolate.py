"""Interpolation: the way from one image to another through the codes, a pair a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import unit_images
from betavae_core.figures.page import SMALL, TEXT_HEIGHT, TEXT_WIDTH, Page, fitted, plain, styled
from betavae_core.figures.tiles import GAP, LARGEST, draw_row, label_columns

MOST = 20  # rows
ASIDE = 0.1  # inches between an original and the images that the decoder made
HEADER, MIDDLE = 0.17, 0.065  # inches: the line of labels, and its middle


@styled
def interpolation(images: Any, ends: Any = None, *, title: str) -> Figure:
    """Rows of decoded images, from one code to another in equal steps of t from 0 to 1.

    images  (R, n, H, W) or (R, n, H, W, C), floats in [0, 1] or uint8: row r, from t = 0 to t = 1
    ends    (R, 2, H, W[, C]), optional: the two original images of each row, set apart at its
            ends under the word "input"

    Beyond 20 rows the first 20 are shown, and the title says so. Raises UsageError when shapes
    disagree.
    """
    cells = unit_images("images", images, "R, n")
    originals = None if ends is None else unit_images("ends", ends, "R, 2")
    wanted = (len(cells), 2, *cells.shape[2:])
    if originals is not None and originals.shape != wanted:
        raise UsageError(f"ends must be two images a row, {wanted}, got {originals.shape}")
    if len(cells) > MOST:
        title = f"{title} (the first {MOST} of {len(cells)})"
    rows, steps = min(len(cells), MOST), cells.shape[1]

    beside = 0.0 if originals is None else 1.0  # room for an original at either end
    room = (TEXT_WIDTH - 2 * beside * ASIDE) / (steps + 2 * beside) - GAP
    size = fitted(cells.shape[2:], min(room, LARGEST), min((TEXT_HEIGHT - HEADER) / rows, LARGEST))
    across, down = size[0] + GAP, size[1] + GAP
    left = beside * (across + ASIDE)
    width = 2 * left + steps * across - GAP
    page = Page(width, HEADER + rows * down - GAP, title)
    names = plain(np.linspace(0, 1, steps))
    label_columns(page, [f"t = {names[0]}", *names[1:]], left, MIDDLE, size)
    for row in range(rows):
        draw_row(page, cells[row], left, HEADER + row * down, size)
    if originals is not None:
        for x, column in ((0.0, originals[:, 0]), (width - size[0], originals[:, 1])):
            page.text(x + size[0] / 2, MIDDLE, "input", size=SMALL, ha="center")
            for row in range(rows):
                page.image(column[row], x, HEADER + row * down, size)
    return page.figure
