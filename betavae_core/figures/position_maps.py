"""Heat-maps of the mean codes over position: what each latent says about where things are.

Burgess et al. (2018), figure 2. One scale of shades for all latents, symmetric about 0, so that a
latent that says nothing is flat.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.page import (
    ACTIVE_NATS,
    INK,
    LINE,
    QUIET,
    SMALL,
    Page,
    fitted,
    latent_name,
    number,
)
from betavae_core.figures.palette import color_bar, shade

COLUMNS = 6
CELL, GAP = 0.9, 0.13  # inches: the side of a map, and between maps
CAPTION = 0.15
LEFT, BELOW = 0.13, 0.57  # inches: for the names of the axes, and for the colour bar
BAR, BAR_BELOW = 0.09, 0.2  # inches: the bar's height, and its place below the maps
SMALLEST_RANGE = 1.0  # shades reach at least ± one prior σ, so that noise stays pale


def mean_maps(name: str, maps: Any, latents: int) -> NDArray[np.float64]:
    """`maps` (D, ny, nx) as floats, NaN allowed. Raises UsageError for others."""
    array = np.asarray(maps, dtype=np.float64)
    if array.ndim != 3 or len(array) != latents or array.size == 0 or np.isinf(array).any():
        raise UsageError(f"{name} must be ({latents}, ny, nx), none infinite, got {array.shape}")
    return array


def reach(*means: NDArray[np.float64]) -> float:
    """How far mean codes go from 0, at least one prior σ."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0) for array in means]
    return max(SMALLEST_RANGE, *map(float, sizes))


def draw_map(
    page: Page,
    values: NDArray[np.float64],
    limit: float,
    place: tuple[float, float],
    size: tuple[float, float],
) -> None:
    """One map from −limit to limit, as the images lie: y grows downwards."""
    page.image(shade(values, -limit, limit), *place, size)


def draw_scale(
    page: Page, limit: float, x: float, y: float, width: float, label: str = "mean code"
) -> None:
    """The colour bar of maps whose lower edge is at height y."""
    color_bar(page.panel(x, y + BAR_BELOW, width, BAR), -limit, limit, label)


def position_maps(
    maps: NDArray[np.float64], order: NDArray[np.intp], kl: Any, title: str
) -> Figure:
    """Maps (D, ny, nx) of the latents in `order`, six to a line, each below its name and KL."""
    size = fitted(maps.shape[1:], CELL, CELL)
    limit = reach(maps)
    columns = min(len(order), COLUMNS)
    across, down = CELL + GAP, CAPTION + size[1] + GAP
    lines = ceil(len(order) / columns)
    page = Page(LEFT + columns * across - GAP, lines * down - GAP + BELOW, title)
    for n, latent in enumerate(order):
        x, y = LEFT + n % columns * across, n // columns * down
        color = INK if kl[latent] >= ACTIVE_NATS else QUIET
        page.text(x, y + CAPTION / 2 - 0.01, latent_name(int(latent)), color=color)
        words = f"{number(kl[latent])} nats"
        page.text(x + size[0], y + CAPTION / 2 - 0.01, words, color=color, ha="right")
        draw_map(page, maps[latent], limit, (x, y + CAPTION), size)
    bottom = (lines - 1) * down + CAPTION + size[1]
    page.text(0, bottom - size[1] / 2, "y", size=SMALL)
    page.text(LEFT + size[0] / 2, bottom + LINE / 2 + 0.02, "x", size=SMALL, ha="center")
    draw_scale(page, limit, LEFT, bottom, min(2.0, columns * across - GAP))
    return page.figure
