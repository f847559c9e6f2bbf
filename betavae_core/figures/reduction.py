"""Many-dimensional codes on a plane: principal components, or neighbourhoods kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.cloud import METHODS
from betavae_core.figures.inputs import finite

FEWEST = 4  # codes: t-SNE needs more than its perplexity of at least 1


def reduce(codes: Any, method: str = "pca", *, seed: int = 0) -> NDArray[np.float64]:
    """The codes (N, D) as points (N, 2): the same for the same codes, method and seed.

    pca   the two directions of largest variance, in the units of the codes (Pearson 1901)
    tsne  t-SNE (van der Maaten and Hinton 2008), perplexity 30 or less, started from the principal
          components; distances and axes have no unit. About ten seconds for 2,000 codes.

    Codes that are all equal stay together at (0, 0). Raises UsageError for another method, D < 2,
    N < 4, NaN and infinity.
    """
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    shape = np.shape(codes)
    if len(shape) != 2 or shape[0] < FEWEST or shape[1] < 2:
        raise UsageError(f"codes must be (N, D) with N >= {FEWEST} and D >= 2, got {shape}")
    codes = finite("codes", codes, shape)
    if not np.ptp(codes, axis=0).any():
        return np.zeros((len(codes), 2))
    points = _pca(codes, seed) if method == "pca" else _tsne(codes, seed)
    return points.astype(np.float64)


def _pca(codes: NDArray[np.float64], seed: int) -> NDArray[np.floating]:
    from sklearn.decomposition import PCA

    return PCA(2, random_state=seed).fit_transform(codes)


def _tsne(codes: NDArray[np.float64], seed: int) -> NDArray[np.floating]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)
