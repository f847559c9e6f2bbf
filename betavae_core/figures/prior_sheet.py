"""Samples from the prior: what the decoder makes of codes that no image gave it."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

from matplotlib.figure import Figure

from betavae_core.figures.inputs import unit_images
from betavae_core.figures.page import TEXT_HEIGHT, TEXT_WIDTH, Page, fitted, styled
from betavae_core.figures.tiles import GAP, LARGEST, draw_row

MOST = 400


@styled
def samples(images: Any, *, title: str) -> Figure:
    """A square grid of `images` (n, H, W[, C]), floats in [0, 1] or uint8 (255 is white).

    Beyond 400 images the first 400 are shown, and the title says so. Raises UsageError for other
    shapes.
    """
    cells = unit_images("images", images, "n")
    if len(cells) > MOST:
        title = f"{title} (the first {MOST} of {len(cells)})"
    cells = cells[:MOST]
    columns = ceil(sqrt(len(cells)))
    rows = ceil(len(cells) / columns)
    size = fitted(
        cells.shape[1:],
        min(TEXT_WIDTH / columns - GAP, LARGEST),
        min(TEXT_HEIGHT / rows - GAP, LARGEST),
    )
    across, down = size[0] + GAP, size[1] + GAP
    page = Page(columns * across - GAP, rows * down - GAP, title)
    for row in range(rows):
        draw_row(page, cells[row * columns : (row + 1) * columns], 0, row * down, size)
    return page.figure
