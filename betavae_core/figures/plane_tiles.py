"""The manifold: what the decoder makes of every place on the plane of two latents."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.curves import round_ticks
from betavae_core.figures.inputs import unit_images
from betavae_core.figures.page import TEXT_WIDTH, Page, fitted, latent_name, styled
from betavae_core.figures.tiles import LARGEST

LEFT, BELOW = 0.4, 0.36  # inches for the axes
TICK = 0.6  # inches from one tick to the next, or more


@styled
def manifold(images: Any, low: float = -4.0, high: float = 4.0, *, title: str) -> Figure:
    """Decoded images over a grid of two latents, with the values of both along the edges.

    images  (n, n, H, W) or (n, n, H, W, C), floats in [0, 1] or uint8: images[i, j] is decoded
            from z₁ = v[i], z₀ = v[j], with v = linspace(low, high, n)

    z₁ grows upwards and z₀ to the right, as in `scatter`. Raises UsageError for other shapes and
    for low >= high.
    """
    cells = unit_images("images", images, "n, n")
    if cells.shape[0] != cells.shape[1]:
        raise UsageError(f"images must be as many rows as columns, got {cells.shape[:2]}")
    if not -np.inf < low < high < np.inf:
        raise UsageError(f"low must be less than high, both finite, got {low} and {high}")
    mosaic = _mosaic(cells[::-1])
    room = min(TEXT_WIDTH - LEFT, LARGEST * len(cells))
    width, height = fitted(mosaic.shape, room, room)
    page = Page(LEFT + width, height + BELOW, title)
    page.image(mosaic, LEFT, 0, (width, height))
    half = (high - low) / max(len(cells) - 1, 1) / 2  # values stand at the middle of an image
    axes = page.panel(LEFT, 0, width, height)
    axes.patch.set_visible(False)
    axes.set(xlim=(low - half, high + half), ylim=(low - half, high + half))
    axes.set(xlabel=latent_name(0), ylabel=latent_name(1))
    for axis, side in ((axes.xaxis, width), (axes.yaxis, height)):
        round_ticks(axis, int(np.clip(side / TICK, 1, 8)))
    axes.yaxis.set_label_coords(-(LEFT - 0.07) / width, 0.5)
    return page.figure


def _mosaic(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, C, H, W[, 3]) as one image (R·H, C·W[, 3])."""
    rows, columns, height, width = cells.shape[:4]
    return cells.swapaxes(1, 2).reshape(rows * height, columns * width, *cells.shape[4:])
