"""MIG: is there, for each factor, one latent that knows more of it than any other?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError
from betavae_core.metrics.contingency import entropies, equal_width_bins, mutual_information
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.resampling import draw_weights

Floats = NDArray[np.float64]


def mig(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20) -> float:
    """The mutual information gap, in [0, 1], of codes (N, D) and factors (N, K).

        MIG = 1/K Σ_k [ I(z_j(k); v_k) - max_{j ≠ j(k)} I(z_j; v_k) ] / H(v_k)

    with j(k) the latent that has the largest information. The latents are cut into `bins` cells
    of equal width, so perfect codes of a factor with more values than bins score below 1.

        >>> import numpy as np
        >>> v = np.indices((4, 4)).reshape(2, 16).T
        >>> round(mig(v, v), 12), round(mig(v @ [[1, 1], [1, -1]], v), 12)
        (1.0, 0.0)

    Raises DataError for arrays that are not codes and factors, and for a single latent.

    Source: Chen, Li, Grosse, Duvenaud, "Isolating sources of disentanglement in VAEs" (2018),
    equation 6; bins as in Locatello et al. (2019). disentangling-vae takes a `view` of the codes
    for their transpose (its issue 78), which mixes latents and points: 0.0008 in place of 0.50.
    """
    return measure(Points.of(codes, factors), bins=bins)["mig"].score


def measure(
    points: Points, *, seed: int = 0, resamples: int = 0, bins: int = 20
) -> dict[str, Measured]:
    """`mig`; the details hold `information` (D, K) and `entropy` (K,), nats, and `per_factor`."""
    if points.codes.shape[1] < 2:
        raise DataError("mig compares latents: codes must have at least 2 columns, got 1")
    weights = draw_weights(len(points), resamples, seed)
    cells = equal_width_bins(points.codes, bins)
    information = mutual_information(cells, points.factors, weights)
    entropy = entropies(points.factors, weights)
    gaps, scores = _gaps(information, entropy)
    details: dict[str, Any] = {
        "information": information[0],
        "entropy": entropy[0],
        "per_factor": gaps[0],
    }
    return {"mig": Measured(float(scores[0]), scores[1:], details)}


def _gaps(information: Floats, entropy: Floats) -> tuple[Floats, Floats]:
    """Gaps (R, K) and their means (R,) over the factors that vary in the resample."""
    second, first = np.sort(information, axis=1)[:, -2:].swapaxes(0, 1)
    varies = entropy > 0
    gaps = np.divide(first - second, entropy, out=np.zeros_like(entropy), where=varies)
    return gaps, gaps.sum(1) / np.maximum(varies.sum(1), 1)


METRIC = Metric(names=("mig",), measure=measure)
