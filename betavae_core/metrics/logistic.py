"""Logistic regressions of many yes-no questions on the same codes, all at once.

For question m with answers t_n in {0, 1}, over inputs x_n with a 1 appended,

    min_w  Σ_n [ ln(1 + exp(w·x_n)) - t_n w·x_n ] + |w without its intercept|² / 2

which is scikit-learn's LogisticRegression at C = 1. Newton's method: the curvatures of all
questions are one matrix product of p(1 - p) with the products of pairs of inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

MOST_STEPS = 100  # ten are usual
SETTLED = 1e-8  # the size of a Newton step, relative, that ends the search
ROUNDING = 1e-12  # of a loss that is a sum over thousands of points
TINY = 1e-300
FLAT = 1e-12  # of the intercept, where a trial makes every answer certain
CACHED = 2**16  # numbers that are worked on at once


def fit(x: Floats, answers: NDArray[np.bool_]) -> Floats:
    """Weights (D + 1, M), the intercepts last, for x (N, D) and answers (N, M).

    Each question needs points of either answer: with one alone there is no minimum.
    """
    x, signs = _with_ones(x), np.where(answers, 1.0, -1.0)
    weights, share = np.zeros((x.shape[1], answers.shape[1])), np.ones(answers.shape[1])
    loss, newton = _quadratic(x, signs, weights)
    for _ in range(MOST_STEPS):
        if (np.abs(newton) <= SETTLED * (1 + np.abs(weights))).all():
            break
        tried, further = _quadratic(x, signs, weights + share * newton)
        better = tried <= loss * (1 + ROUNDING)
        weights = np.where(better, weights + share * newton, weights)
        newton, loss = np.where(better, further, newton), np.where(better, tried, loss)
        share = np.where(better, 1.0, share / 2)
    return weights


def scores(x: Floats, weights: Floats) -> Floats:
    """w·x (N, M): the log-odds of a yes."""
    return _with_ones(x) @ weights


def _with_ones(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _quadratic(x: Floats, signs: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The loss (M,) at the weights, and the step (D + 1, M) to the minimum of its quadratic."""
    penalised = np.append(np.ones(len(weights) - 1), 0.0)[:, None]
    loss, gradient = (penalised * weights**2).sum(0) / 2, penalised * weights
    row, column = np.triu_indices(len(weights))
    pairs = np.zeros((weights.shape[1], len(row)))
    for part in _parts(len(x), max(pairs.shape)):
        p = expit(signs[part] * (x[part] @ weights))  # of the answer that was given
        loss -= np.log(np.maximum(p, TINY)).sum(0)
        gradient -= x[part].T @ (signs[part] * (1 - p))
        pairs += (p * (1 - p)).T @ (x[part][:, row] * x[part][:, column])
    curvature = np.zeros((len(pairs), len(weights), len(weights)))
    curvature[:, row, column] = curvature[:, column, row] = pairs
    curvature += np.diag(np.maximum(penalised[:, 0], FLAT))
    return loss, np.negative(np.linalg.solve(curvature, gradient.T[:, :, None])[:, :, 0].T)


def _parts(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows whose products stay in the cache."""
    rows = max(CACHED // width, 16)
    return (slice(start, start + rows) for start in range(0, n, rows))
