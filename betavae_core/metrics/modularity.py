"""Modularity: does each latent know of one factor alone?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError
from betavae_core.metrics.contingency import equal_width_bins, mutual_information
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.resampling import draw_weights

Floats = NDArray[np.float64]


def modularity(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> float:
    """The modularity, in [0, 1], of codes (N, D) and factors (N, K).

        1/D Σ_j [ 1 - Σ_{k ≠ k(j)} I(z_j; v_k)² / ((K - 1) I(z_j; v_k(j))²) ]

    with k(j) the factor of which latent j has the largest information, measured on `bins` cells
    of equal width. A latent without any information (a constant) counts 0.

    Its floor is far from 0. Of a latent of noise, a finite sample shows information of every
    factor, about (bins - 1)(V - 1)/2N nats for V values: the fewer points and the more unequal
    the factors, the more modular noise looks. Read it beside the floor for the same points.

        >>> import numpy as np
        >>> v = np.indices((4, 4)).reshape(2, 16).T
        >>> round(modularity(v, v), 12), round(modularity(v @ [[1, 1], [1, -1]], v), 12)
        (1.0, 0.0)

    Raises DataError for arrays that are not codes and factors, and for a single factor.

    Source: Ridgeway, Mozer, "Learning deep disentangled embeddings with the F-statistic loss"
    (2018), section 3; 20 bins as in Locatello et al. (2019).
    """
    return measure(Points.of(codes, factors), bins=bins)["modularity"].score


def measure(
    points: Points, *, seed: int = 0, resamples: int = 0, bins: int = 20
) -> dict[str, Measured]:
    """`modularity`; the details hold `information` (D, K), in nats, and `per_latent` (D,)."""
    if points.factors.shape[1] < 2:
        raise DataError("modularity compares factors: at least 2 of them must vary, got 1")
    weights = draw_weights(len(points), resamples, seed)
    cells = equal_width_bins(points.codes, bins)
    information = mutual_information(cells, points.factors, weights)
    latents = _modular(information)
    scores = latents.mean(1)
    details = {"information": information[0], "per_latent": latents[0]}
    return {"modularity": Measured(float(scores[0]), scores[1:], details)}


def _modular(information: Floats) -> Floats:
    """Modularity of each latent (R, D), from information (R, D, K)."""
    squares = information**2
    largest = squares.max(2)
    others = (squares.sum(2) - largest) / (information.shape[2] - 1)
    spread = np.divide(others, largest, out=np.ones_like(largest), where=largest > 0)
    return 1.0 - spread


METRIC = Metric(names=("modularity",), measure=measure)
