"""Explicitness: can each value of each factor be told from the rest by a line in the codes?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, log_softmax

from betavae_core.errors import DataError
from betavae_core.metrics import logistic
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.resampling import draw_weights, split

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")  # of a run of ties


def explicitness(
    codes: ArrayLike, factors: ArrayLike, *, normalised: bool = False, seed: int = 0
) -> float:
    """The explicitness of codes (N, D) and factors (N, K): 0.5 by chance, 1 at best.

        1/K Σ_k 1/V_k Σ_v AUC(logistic regression of "factor k is v" on the codes)

    AUC is the area under the receiver operating characteristic: how often a point with the value
    scores above one without it, a tie counted half. Two thirds of the points are fitted, with
    codes standardised on them and a ridge penalty of 1/2; the others score. It is not rescaled to
    2 AUC - 1.

    A rotation of the codes does not change it (but for the penalty): it asks whether the factors
    can be read off, not from where.

    Raises DataError for arrays that are not codes and factors, and for so few points that no
    value occurs on both sides of the split.

    If `normalised`, a point's probabilities are divided by their sum over the values of the factor
    before points are ranked, which lets a value between others be told by what it is not: perfect
    codes of the 2D shapes score 0.92 in place of 0.78.

    Source: Ridgeway, Mozer, "Learning deep disentangled embeddings with the F-statistic loss"
    (2018), section 3, where each regression ranks by itself. disentanglement_lib normalises as
    scikit-learn did until its version 0.22; since then the same code fits a multinomial regression.
    """
    points = Points.of(codes, factors)
    return measure(points, seed=seed, normalised=normalised)["explicitness"].score


def measure(
    points: Points, *, seed: int = 0, resamples: int = 0, normalised: bool = False
) -> dict[str, Measured]:
    """`explicitness`; the details hold `per_factor` (K,).

    The resamples are of the points that score; nothing is fitted again. A value that one side of
    the split, or a resample, lacks is left out of its factor's mean; a factor without any is NaN
    and left out as well.
    """
    train, test = split(points, seed)
    asked, asked_test = (_questions(part, points.sizes) for part in (train, test))
    told = np.flatnonzero(_open(asked) & _open(asked_test))
    if not len(told):
        raise DataError(
            "explicitness needs points with and without a value on both sides of the split, "
            f"got {len(points)} points"
        )
    scores = _log_odds(train.codes, asked[:, told], test.codes)
    if normalised:
        scores = _log_shares(scores, np.repeat(np.arange(len(points.sizes)), points.sizes)[told])
    weights = draw_weights(len(test), resamples, seed)
    areas = np.full((sum(points.sizes), len(weights)), np.nan)
    for value, of_value in zip(told, scores.T, strict=True):
        areas[value] = _area(of_value, asked_test[:, value], weights)
    per_factor = np.stack([_mean(a) for a in np.split(areas, np.cumsum(points.sizes)[:-1])])
    overall = _mean(per_factor)
    details = {"per_factor": per_factor[:, 0]}
    return {"explicitness": Measured(float(overall[0]), overall[1:], details)}


def _log_odds(z: Floats, asked: Booleans, z_test: Floats) -> Floats:
    """Log-odds of each question at z_test, by regressions that were fitted to z."""
    mean, spread = z.mean(0), z.std(0)
    x, x_test = ((part - mean) / np.where(spread > 0, spread, 1.0) for part in (z, z_test))
    return logistic.scores(x_test, logistic.fit(x, asked))


def _log_shares(log_odds: Floats, owner: NDArray[np.intp]) -> Floats:
    """ln p_v / Σ p of log-odds (N, M), the sum over the questions of the same owner (M,)."""
    log_p = log_expit(log_odds)
    for k in np.unique(owner):
        log_p[:, owner == k] = log_softmax(log_p[:, owner == k], axis=1)
    return log_p


def _questions(points: Points, sizes: tuple[int, ...]) -> Booleans:
    """(N, Σ V): is the factor at the value? One factor's values after another's."""
    every = zip(points.factors.T, sizes, strict=True)
    return np.concatenate([column[:, None] == np.arange(V) for column, V in every], axis=1)


def _open(asked: Booleans) -> Booleans:
    """(M,): is there a point of either answer?"""
    return np.asarray(asked.any(0) & ~asked.all(0))


def _area(scores: Floats, positive: Booleans, weights: Floats) -> Floats:
    """(R,) for scores (N,) under weights (R, N); NaN where the weights leave one side empty."""
    order = np.argsort(scores)
    ranked, own = scores[order], weights[:, positive]
    rivals = np.zeros((len(weights), len(scores) + 1))  # the weight of those ranked before
    np.cumsum(weights[:, order] * ~positive[order], axis=1, out=rivals[:, 1:])
    below, up_to = (rivals[:, np.searchsorted(ranked, scores[positive], s)] for s in SIDES)
    pairs = own.sum(1) * rivals[:, -1]
    won = (own * (below + up_to)).sum(1) / 2
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _mean(values: Floats) -> Floats:
    """Over the first axis, without NaN; NaN where there is nothing else."""
    there = ~np.isnan(values)
    total, count = np.where(there, values, 0.0).sum(0), there.sum(0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


METRIC = Metric(names=("explicitness",), measure=measure)
