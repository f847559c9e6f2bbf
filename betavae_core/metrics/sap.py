"""SAP: how much better one latent predicts a factor than any other does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.svm import LinearSVC

from betavae_core.errors import DataError
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.resampling import draw_weights, split

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

C = 0.01  # disentanglement_lib's


def sap(codes: ArrayLike, factors: ArrayLike, *, continuous: bool = False, seed: int = 0) -> float:
    """The separated attribute predictability, in [0, 1], of codes (N, D) and factors (N, K).

        SAP = 1/K Σ_k [ S_(1)k - S_(2)k ],   the largest and second of S_jk over latents j

    S_jk is the accuracy, on a third of the points, of a linear support-vector machine that was
    fitted to the other two thirds to tell factor k from latent j alone (squared hinge, C = 0.01,
    balanced classes, one against the rest). If `continuous`, S_jk is instead the squared
    correlation of latent j and the index of factor k's value, over all points.

    The latents are taken as they come: their scale changes how far the penalty holds a machine
    back. And lines on one number cannot separate a value from those on both sides of it, so even
    perfect codes of many-valued factors score far below 1: read the score beside its ceiling.

    Raises DataError for arrays that are not codes and factors, for a single latent, and for fewer
    points than a split needs.

    Source: Kumar, Sattigeri, Balakrishnan, "Variational inference of disentangled latent concepts
    from unlabeled observations" (2018), section 3; classifier as in disentanglement_lib, whose
    solver may stop short of the minimum that is found here.
    """
    return measure(Points.of(codes, factors), seed=seed, continuous=continuous)["sap"].score


def measure(
    points: Points, *, seed: int = 0, resamples: int = 0, continuous: bool = False
) -> dict[str, Measured]:
    """`sap`; the details hold `predictability` (D, K), which is S, and `per_factor` (K,).

    The resamples are of the points that score; the machines are not fitted again.
    """
    if points.codes.shape[1] < 2:
        raise DataError("sap compares latents: codes must have at least 2 columns, got 1")
    if continuous:
        S = _squared_correlations(points, draw_weights(len(points), resamples, seed))
    else:
        train, test = split(points, seed)
        S = _accuracies(train, test, draw_weights(len(test), resamples, seed))
    second, first = np.sort(S, axis=1)[:, -2:].swapaxes(0, 1)
    scores = (first - second).mean(1)
    details = {"predictability": S[0], "per_factor": (first - second)[0]}
    return {"sap": Measured(float(scores[0]), scores[1:], details)}


def _accuracies(train: Points, test: Points, weights: Floats) -> Floats:
    """(R, D, K) under the weights (R, N) of the test points."""
    right = [
        _predicted(z, values, z_test) == test.factors[:, k]
        for z, z_test in zip(train.codes.T, test.codes.T, strict=True)
        for k, values in enumerate(train.factors.T)
    ]
    shape = (len(weights), train.codes.shape[1], train.factors.shape[1])
    return (weights @ np.transpose(right)).reshape(shape) / len(test)


def _predicted(z: Floats, values: Indices, z_test: Floats) -> Indices:
    """Values at z_test by machines fitted to z; solved in the primal, which settles in moments."""
    if values.min() == values.max():
        return np.full(len(z_test), values[0])
    machine = LinearSVC(C=C, class_weight="balanced", dual=False, tol=1e-8)
    return machine.fit(z[:, None], values).predict(z_test[:, None])


def _squared_correlations(points: Points, weights: Floats) -> Floats:
    """(R, D, K) under weights (R, N); 0 where either is constant."""
    z = points.codes - points.codes[0]  # so that a constant is 0, whatever its value
    v = points.factors - points.factors[0]
    mean_z, mean_v = weights @ z / len(points), weights @ v / len(points)
    products = np.einsum("rn,nj,nk->rjk", weights, z, v, optimize=True) / len(points)
    covariance = products - mean_z[:, :, None] * mean_v[:, None, :]
    variance_z = weights @ z**2 / len(points) - mean_z**2
    variance_v = weights @ v**2 / len(points) - mean_v**2
    variances = variance_z[:, :, None] * variance_v[:, None, :]
    varies = variances > 0
    return np.divide(covariance**2, variances, out=np.zeros_like(variances), where=varies)


METRIC = Metric(names=("sap",), measure=measure)
