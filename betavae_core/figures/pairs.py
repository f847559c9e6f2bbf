"""Reconstructions: what went in above what came out, ten to a line."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import unit_images
from betavae_core.figures.page import (
    TEXT_HEIGHT,
    TEXT_WIDTH,
    Page,
    fitted,
    styled,
    text_width,
)
from betavae_core.figures.tiles import GAP, LARGEST, draw_row

PER_LINE = 10
MOST = 40
BLOCK_GAP = 0.12  # inches between one pair of rows and the next
NAMES = ("input", "reconstruction")


@styled
def reconstructions(originals: Any, reconstructions: Any, *, title: str) -> Figure:
    """Pairs of rows: `originals` above their `reconstructions`, at most the first 40.

    Both are (n, H, W) or (n, H, W, C) with C in {1, 3}, as uint8 (255 is white) or as floats in
    [0, 1], and have equal shapes. Grey is never rescaled. Raises UsageError otherwise.
    """
    inputs = unit_images("originals", originals, "n")
    outputs = unit_images("reconstructions", reconstructions, "n")
    if inputs.shape != outputs.shape:
        raise UsageError(
            "originals and reconstructions must have one shape, "
            f"got {inputs.shape} and {outputs.shape}"
        )
    if len(inputs) > MOST:
        title = f"{title} (the first {MOST} of {len(inputs)})"
    shown = min(len(inputs), MOST)
    columns = min(shown, PER_LINE)
    blocks = -(-shown // PER_LINE)

    left = text_width(NAMES[1]) + 0.1
    tallest = (TEXT_HEIGHT / blocks - BLOCK_GAP) / 2 - GAP
    room = min((TEXT_WIDTH - left) / columns - GAP, LARGEST)
    size = fitted(inputs.shape[1:], room, min(LARGEST, tallest))
    across, down = size[0] + GAP, size[1] + GAP
    block = 2 * down + BLOCK_GAP
    page = Page(left + columns * across - GAP, blocks * block - BLOCK_GAP - GAP, title)
    for n in range(blocks):
        line = slice(n * PER_LINE, min((n + 1) * PER_LINE, shown))
        for row, (name, images) in enumerate(zip(NAMES, (inputs, outputs), strict=True)):
            y = n * block + row * down
            page.text(left - 0.1, y + size[1] / 2, name, ha="right")
            draw_row(page, images[line], left, y, size)
    return page.figure
