"""Principal components of the pixels (Pearson 1901), as a representation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from betavae_core.baselines import raw
from betavae_core.baselines.representation import Representation, first_seen, of_images, unit
from betavae_core.data.dataset import Dataset
from betavae_core.errors import UsageError

IMAGES = 5_000  # that it is fitted on


def fit(
    dataset: Dataset, *, seed: int = 0, components: int = 10, images: int = IMAGES
) -> Representation:
    """Codes (n, D): the coordinates of x / levels along the D directions of largest variance.

    Fitted on at most `images` training images, chosen by `seed`.
    Raises UsageError unless there are as many images and pixels as components.
    """
    plane, _ = principal(dataset, components, images, seed)
    return affine(dataset, plane.mean_, plane.components_)


def principal(
    dataset: Dataset, components: int, images: int, seed: int
) -> tuple[Any, NDArray[np.floating]]:
    """The fitted plane, and the codes (n, D) of the images that it was fitted on."""
    pixels = raw.fit(dataset)(first_seen(dataset, images, seed))
    if not 1 <= components <= min(pixels.shape):
        raise UsageError(
            f"components must be from 1 to the {min(pixels.shape)} that {len(pixels)} images of "
            f"{pixels.shape[1]} pixels have, got {components}"
        )
    plane = PCA(components, svd_solver="randomized", random_state=_state(seed))
    return plane, plane.fit_transform(pixels)


def affine(
    dataset: Dataset, mean: NDArray[np.floating], directions: NDArray[np.floating]
) -> Representation:
    """Codes (n, D) = (x / levels - mean) directionsᵀ, for mean (P,) and directions (D, P)."""
    offset, across = (torch.from_numpy(np.asarray(a, np.float32)) for a in (mean, directions))
    return of_images(dataset, lambda x: (unit(x, dataset.levels) - offset) @ across.T)


def _state(seed: int) -> int:
    """scikit-learn takes seeds of 32 bits."""
    return seed % 2**32
