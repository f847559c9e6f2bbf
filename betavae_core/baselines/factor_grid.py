"""The images of a data set by their factors: which ones differ in a single factor.

With the values of every factor numbered, images lie on a grid of prod(sizes) places; a line along
an axis holds the images that differ in that factor alone. Places may be empty.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.dataset import Dataset
from betavae_core.data.split import Indices
from betavae_core.errors import DataError

_SPARSEST = 64  # places an image: more, and the factors are measurements rather than a grid


class FactorGrid:
    """The grid of the factors that vary among the images `rows` of a data set.

    Raises DataError where no factor varies, or they make no grid.
    """

    def __init__(self, dataset: Dataset, rows: Indices) -> None:
        if dataset.factors is None:
            raise DataError(f"DC-IGN is taught factors, and {dataset.name} has none")
        numbered = [np.unique(c, return_inverse=True)[1] for c in dataset.factors[rows].T]
        varying = [k for k, column in enumerate(numbered) if column.max() > 0]
        self.names = tuple(dataset.factor_names[k] for k in varying)
        self.sizes = tuple(int(numbered[k].max()) + 1 for k in varying)
        if not varying or prod(self.sizes) > _SPARSEST * len(rows):
            raise DataError(
                f"DC-IGN needs factors whose values make a grid, and {dataset.name} has "
                f"{len(rows)} training images with factors of sizes {self.sizes}"
            )
        self._values = np.stack([numbered[k] for k in varying], axis=1)
        self._strides = np.cumprod((1, *self.sizes[:0:-1]))[::-1]
        self._place = self._values @ self._strides  # of each of `rows`
        self._image = np.full(prod(self.sizes), -1)
        self._image[self._place] = rows

    def line(self, position: int, factor: int) -> Indices:
        """The images that equal image rows[position] in all factors but this one."""
        steps = np.arange(self.sizes[factor]) - self._values[position, factor]
        images = self._image[self._place[position] + steps * self._strides[factor]]
        return images[images >= 0]

    def minibatches(self, words: NDArray[np.int64], factors: NDArray[np.int64]) -> Indices:
        """(G, M) images, each row of one line along `factors` (G,).

        `words` (G, 1 + M) are uniform in [0, 2^32): the first of a row chooses the line, by an
        image on it, and the others choose from the line, with replacement.
        """
        lines = [
            self.line(int(first) * len(self._place) >> 32, int(factor))
            for first, factor in zip(words[:, 0], factors, strict=True)
        ]
        pairs = zip(lines, words[:, 1:], strict=True)
        return np.stack([line[own * len(line) >> 32] for line, own in pairs])
