"""Which points are fitted and which are scored, and resamples of either as integer weights.

A bootstrap resample says how often each point is drawn. Kept as weights, tables, accuracies and
areas over all resamples are matrix products, and the first row, every point once, is the score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from betavae_core.errors import DataError
from betavae_core.metrics.points import Points, resampled_rows

TRAIN_SHARE = 2 / 3  # 10,000 to fit and 5,000 to score, where 15,000 points are given


def draw_weights(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """(1 + resamples, n): row 0 is ones, the others how often a resample draws each point."""
    rows = resampled_rows(n, resamples, seed)
    return np.stack([np.ones(n), *(np.bincount(drawn, minlength=n) for drawn in rows)])


def split(points: Points, seed: int, share: float = TRAIN_SHARE) -> tuple[Points, Points]:
    """The points to fit, `share` of them drawn without replacement, and the points to score.

    Raises DataError where one side would be empty.
    """
    n = round(share * len(points))
    if not 0 < n < len(points):
        raise DataError(
            f"points must be enough to fit on some and score the others, got {len(points)}"
        )
    order = np.random.default_rng([seed, len(points)]).permutation(len(points))
    return points.take(np.sort(order[:n])), points.take(np.sort(order[n:]))
