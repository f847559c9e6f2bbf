"""The 2D shapes (dSprites): all 737,280 images drawn from a few constants, no download.

Redrawn, and equal on all 407 images of the original that could be checked, not bit-identical to
the file: the original was rasterised in float32, so some 50-100 of 3 billion pixels may differ.

One white shape on black, 64x64: square, ellipse or heart, at 6 scales, 40 orientations and 32x32
positions. An outline is a polygon, in pixels about the origin; it is scaled, turned, moved, its
vertices rounded to 1/256 px, and filled by the even-odd rule in integers:

    a vertex v becomes floor(256 v + 1/2); the centre of pixel (row, col) is (256 col + 128,
    256 row + 128); an edge counts for a row when y_low < y_centre <= y_high; a pixel lies beyond
    the edge when its centre's x >= the crossing's x; it is lit when beyond an odd number of edges.

Positions are not whole pixels, so no image is a shifted copy of another. But a vertex's x depends
on the position's x alone and its y on y alone: the rows that an edge crosses are found once for
each of the 32 heights, and the crossings for all 32 abscissae together. A row of pixels is a
64-bit word, "all pixels beyond this edge" is a suffix of ones, and filling is an exclusive or.

Source: Matthey, Higgins, Hassabis, Lerchner, "dSprites: disentanglement testing sprites dataset"
(2017), https://github.com/deepmind/dsprites-dataset.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from betavae_core.cores import cores
from betavae_core.data.dataset import Dataset
from betavae_core.data.sources import Source

SIDE = 64
UNIT = 256  # steps to a pixel
FACTOR_VALUES: dict[str, NDArray[np.float64]] = {
    "color": np.ones(1),
    "shape": np.arange(1.0, 4.0),  # square, ellipse, heart
    "scale": np.linspace(0.5, 1.0, 6),
    "orientation": np.linspace(0.0, 2.0 * np.pi, 40),  # both ends: the first and last are one
    "posX": np.linspace(0.0, 1.0, 32),
    "posY": np.linspace(0.0, 1.0, 32),
}
CLASSES = tuple(len(values) for values in FACTOR_VALUES.values())  # 1, 3, 6, 40, 32, 32
COUNT = 737_280

_S = 0.3 * SIDE
_ALL_LIT = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def load() -> Dataset:
    """All images as packed bits, with their factors (N, 6) as class indices, the last fastest."""
    return Dataset(
        name="shapes2d",
        pixels=draw(),
        levels=1,
        image_shape=(1, SIDE, SIDE),
        packed=True,
        factors=factors(),
        factor_names=tuple(FACTOR_VALUES),
        factor_values=FACTOR_VALUES,
    )


@cache  # 378 MB for the rest of the process, against drawing again for every model of a sweep
def draw() -> NDArray[np.uint8]:
    """(737280, 512) packed bits, in the order of the factors; drawn once a process."""
    words = np.zeros((*CLASSES[1:], SIDE), dtype=">u8")  # the first column is the highest bit
    outlines, scales = (square(), ellipse(), heart()), FACTOR_VALUES["scale"]
    turns = product(outlines, scales, FACTOR_VALUES["orientation"])
    shapes = (_turned(scale * outline, angle) for outline, scale, angle in turns)
    with ThreadPoolExecutor(cores()) as pool:  # NumPy counts without Python's lock
        deque(pool.map(_fill, shapes, words.reshape(-1, *words.shape[3:])), maxlen=0)
    return words.reshape(COUNT, SIDE).view(np.uint8)


def factors() -> NDArray[np.uint8]:
    """(737280, 6) class indices: colour, shape, scale, orientation, x, y, the last fastest."""
    return np.indices(CLASSES, dtype=np.uint8).reshape(len(CLASSES), COUNT).T.copy()


def square() -> NDArray[np.float64]:
    """(2, 4) corners at ± S/2, x right and y down, S = 0.3 · 64 pixels."""
    return _S / 2 * np.array([(-1.0, 1.0, 1.0, -1.0), (-1.0, -1.0, 1.0, 1.0)])


def ellipse() -> NDArray[np.float64]:
    """(2, 100) vertices (S/2 · 1.33 cos t, S/2 / 1.33 · sin t)."""
    t = 2 * np.pi * np.arange(100) / 100
    return _S / 2 * np.array((1.33 * np.cos(t), np.sin(t) / 1.33))


def heart() -> NDArray[np.float64]:
    """(2, 150) vertices

    S · (16 sin³t / 32, -(13 cos t - 5 cos 2t - 2 cos 3t - cos 4t) / 29 - 0.075).
    """
    t = 2 * np.pi * np.arange(150) / 150
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _S * np.array((16 * np.sin(t) ** 3 / 32, -height / 29 - 0.075))


def _turned(outline: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """The outline turned counter-clockwise on the screen, where y points down."""
    x, y = outline
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array((x * cos + y * sin, -x * sin + y * cos))


def _placed(v: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """(V, 32) coordinates of the vertices in steps, the origin at 16 + 32 · position pixels."""
    moved = v[:, None] + (SIDE / 4 + SIDE / 2 * positions)
    return np.floor(UNIT * moved + 0.5).astype(np.int64)


def _fill(outline: NDArray[np.float64], out: NDArray[np.uint64]) -> None:
    """Fill the outline (2, V) at every position into `out` (32 posX, 32 posY, 64 rows)."""
    x0 = _placed(outline[0], FACTOR_VALUES["posX"])
    y0 = _placed(outline[1], FACTOR_VALUES["posY"])
    dx, dy = np.roll(x0, -1, axis=0) - x0, np.roll(y0, -1, axis=0) - y0
    edge, height, row = _crossings(y0, y0 + dy)

    # An edge meets a row at x0 + dx · rise / run, so the first pixel beyond it is the ceiling of
    # ((x0 - 128) run + dx · rise) / (256 run), with run > 0.
    run = dy[edge, height]
    rise = (UNIT * row + UNIT // 2 - y0[edge, height]) * np.sign(run)
    run = np.abs(run)[:, None]
    steps = (x0[edge] - UNIT // 2) * run + dx[edge] * rise[:, None]
    column = -(-steps // (UNIT * run))

    word = height * SIDE + row
    starts = np.flatnonzero(np.diff(word, prepend=-1))
    lit = np.bitwise_xor.reduceat(_ALL_LIT >> column.astype(np.uint64), starts, axis=0)
    out.reshape(len(out), -1)[:, word[starts]] = lit.T


def _crossings(y0: NDArray[np.int64], y1: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Every (edge, height, row) with y_low < y_centre(row) <= y_high, sorted by height and row."""
    first = (np.minimum(y0, y1) + UNIT // 2) // UNIT
    count = (np.maximum(y0, y1) + UNIT // 2) // UNIT - first
    edge, height = np.divmod(np.repeat(np.arange(count.size), count.ravel()), count.shape[1])
    before = np.repeat(np.cumsum(count) - count.ravel(), count.ravel())
    row = first[edge, height] + np.arange(len(edge)) - before
    order = np.argsort(height * SIDE + row, kind="stable")
    return edge[order], height[order], row[order]


ENTRIES = (
    Source(
        "shapes2d",
        COUNT,
        (1, SIDE, SIDE),
        COUNT * SIDE * SIDE // 8,
        "dSprites, drawn here in seconds; 6 factors",
        load,
    ),
)
