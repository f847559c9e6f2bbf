"""How a factor is predicted from the codes, and how much each latent matters to the prediction.

Every predictor is fitted once. Its importances under the weights of a resample are those of the
fitted trees or, for the lasso, which solves in moments, of a new fit at the same penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, LassoCV
from sklearn.model_selection import ShuffleSplit
from sklearn.tree import DecisionTreeRegressor

from betavae_core.metrics.boosting import boost

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TREES = 10  # of a forest, and its depth, the largest that the paper's authors used. They choose
DEPTH = 12  # one a factor on held-out points, a choice that moves the scores more than any sample.


class Prediction(NamedTuple):
    """Importance (R, D) under the weights, and what is predicted of the fitted and other points."""

    importance: Floats
    fitted: NDArray
    test: NDArray


class Predictor(NamedTuple):
    """`predict(codes, values, codes_test, weights, seed)`, and the skill of what it predicts."""

    predict: Callable[[Floats, Indices, Floats, Floats, int], Prediction]
    skill: Callable[[NDArray, Indices, Floats], Floats]


def accuracy(predicted: NDArray, values: Indices, weights: Floats) -> Floats:
    """The share (R,) of points (N,) that are predicted right, under weights (R, N)."""
    return weights @ (predicted == values) / weights.sum(1)


def explained(predicted: NDArray, values: Indices, weights: Floats) -> Floats:
    """1 - RMSE / σ (R,), under weights (R, N): 0 for predicting the mean; 0 where σ is 0."""
    n = weights.sum(1)
    error = np.sqrt(weights @ (predicted - values) ** 2 / n)
    spread = np.sqrt(np.maximum(weights @ values**2 / n - (weights @ values / n) ** 2, 0))
    return np.divide(spread - error, spread, out=np.zeros_like(error), where=spread > 0)


def boosting(z: Floats, values: Indices, z_test: Floats, weights: Floats, seed: int) -> Prediction:
    return Prediction(*boost(z, values, z_test, weights, seed=seed))


def lasso(z: Floats, values: Indices, z_test: Floats, weights: Floats, seed: int) -> Prediction:
    """|coefficient| between standardised codes and values; the penalty by 5-fold validation."""
    centre, scale = _standard(z)
    x, x_test = (z - centre) / scale, (z_test - centre) / scale
    mean, spread = _standard(values.astype(np.float64))
    y = (values - mean) / spread
    if not y.any():
        zeros = np.zeros((len(weights), z.shape[1]))
        return Prediction(zeros, values, np.full(len(z_test), values[0]))
    shuffled = ShuffleSplit(5, test_size=0.2, random_state=seed)
    fitted = LassoCV(cv=shuffled).fit(x, y)
    again = [Lasso(fitted.alpha_).fit(x, y, sample_weight=w).coef_ for w in weights]
    predicted = (spread * fitted.predict(part) + mean for part in (x, x_test))
    return Prediction(np.abs(again), *predicted)


def forest(z: Floats, values: Indices, z_test: Floats, weights: Floats, seed: int) -> Prediction:
    """The share of each latent in the fall of the squared error, over ten regression trees."""
    fitted = RandomForestRegressor(TREES, max_depth=DEPTH, random_state=seed).fit(z, values)
    resampled = np.mean([_falls(tree, z, values, weights[1:]) for tree in fitted], axis=0)
    importance = np.concatenate([fitted.feature_importances_[None], resampled])
    return Prediction(importance, fitted.predict(z), fitted.predict(z_test))


PREDICTORS = {
    "boosting": Predictor(boosting, accuracy),
    "lasso": Predictor(lasso, explained),
    "forest": Predictor(forest, explained),
}


def _standard(x: Floats) -> tuple[Floats, Floats]:
    """The mean, and the standard deviation or, of a constant, 1."""
    spread = x.std(0)
    return x.mean(0), np.where(spread > 0, spread, 1.0)


def _falls(tree: DecisionTreeRegressor, z: Floats, values: Indices, weights: Floats) -> Floats:
    """The share (R, D) of each latent in the fall of the weighted squared error in the cuts.

    A node of weight n and targets summing to S explains S²/n; a cut, what its sides explain more.
    """
    nodes = tree.decision_path(z).T
    n, S = nodes @ weights.T, nodes @ (weights * values).T
    explains = np.divide(S**2, n, out=np.zeros_like(n), where=n > 0)
    cut = np.flatnonzero(tree.tree_.children_left >= 0)
    left, right = tree.tree_.children_left[cut], tree.tree_.children_right[cut]
    falls = np.zeros((z.shape[1], len(weights)))
    np.add.at(falls, tree.tree_.feature[cut], explains[left] + explains[right] - explains[cut])
    total = falls.sum(0)
    return np.divide(falls, total, out=np.zeros_like(falls), where=total > 0).T
