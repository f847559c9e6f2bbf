"""Gaussian blobs over x and y: the simplest data whose two factors a β-VAE can find, drawn here.

    pixel (row, col) = round(255 exp(-((col - x)² + (row - y)²) / (2 σ²)))

64x64 pixels, σ = 10 px, and the centre on every pixel: x and y run over 0, 1, …, 63, so 4,096
images, and the blobs reach every edge and corner. Position is all that differs, and σ decides how
many nats it is worth: at σ = 10 px and β = 150 just two latents stay, one for x and one for y.

Source: Burgess et al. 2018, "Understanding disentangling in β-VAE", figure 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.dataset import Dataset
from betavae_core.data.sources import Source
from betavae_core.errors import DataError

SIDE = 64
SIGMA = 10.0


def load() -> Dataset:
    """The 4,096 blobs, in row-major order of their centres."""
    return draw()


def draw(side: int = SIDE, sigma: float = SIGMA) -> Dataset:
    """All side² blobs of width `sigma` pixels; factors (y, x) as class indices, x the faster.

    The values of both factors are in pixels. Raises DataError unless side >= 1 and sigma > 0.
    """
    if side < 1 or not sigma > 0:
        raise DataError(f"blobs need side >= 1 and sigma > 0, got side {side} and sigma {sigma}")
    profile = _profiles(side, sigma)
    blobs = profile[:, None, :, None] * profile[None, :, None, :]  # (y, x, row, col)
    centres = np.arange(side, dtype=np.float64)
    return Dataset(
        name="blobs",
        pixels=np.rint(255 * blobs).astype(np.uint8).reshape(-1, side, side, 1),
        levels=255,
        image_shape=(1, side, side),
        factors=np.indices((side, side)).reshape(2, -1).T.copy(),
        factor_names=("y", "x"),
        factor_values={"y": centres, "x": centres},
    )


def _profiles(side: int, sigma: float) -> NDArray[np.float64]:
    """(centre, pixel) values of the one-dimensional bell, 1 at its centre."""
    pixels = np.arange(side)
    return np.exp(-((pixels[:, None] - pixels) ** 2) / (2 * sigma**2))


ENTRIES = (
    Source(
        "blobs",
        SIDE**2,
        (1, SIDE, SIDE),
        SIDE**4,
        "Gaussian blobs, drawn here; 2 factors",
        load,
    ),
)
