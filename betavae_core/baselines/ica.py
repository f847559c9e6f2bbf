"""Independent components of the pixels, as a representation.

Source: Hyvärinen, Oja 2000, "Independent component analysis: algorithms and applications"
(FastICA, which whitens by the principal components and then turns them).
"""

from __future__ import annotations

import warnings

from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from betavae_core.baselines.pca import IMAGES, affine, principal
from betavae_core.baselines.representation import Representation
from betavae_core.data.dataset import Dataset

_ITERATIONS = 2_000


def fit(
    dataset: Dataset, *, seed: int = 0, components: int = 10, images: int = IMAGES
) -> Representation:
    """Codes (n, D): the D principal components turned to be as independent as can be, variance 1.

    Fitted on at most `images` training images, chosen by `seed`, which also starts the iteration:
    ICA has many optima, and seeds find different ones. Where 2,000 iterations do not settle, the
    last is taken.
    Raises UsageError unless there are as many images and pixels as components.
    """
    plane, codes = principal(dataset, components, images, seed)
    ica = FastICA(whiten="unit-variance", max_iter=_ITERATIONS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(codes)
    return affine(dataset, plane.mean_, ica.components_ @ plane.components_)
