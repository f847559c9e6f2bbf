"""The interventional robustness score: does a latent stay put while other factors are changed?

Hold a factor k at a value, let everything else change, and see how far a latent strays from its
mean there. Averaged over the values, and divided by how far it strays at all, that is what other
factors do to it; a latent of factor k alone does not stray. Every latent is scored by the factor
that suits it best, and weighs as much as it can stray.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import UsageError
from betavae_core.metrics.contingency import equal_width_bins
from betavae_core.metrics.pairs import Encode, Source, as_source, at_least_one, source
from betavae_core.metrics.points import Measured, Metric, Points, resampled_rows

Floats = NDArray[np.float64]


def irs(
    codes: ArrayLike | Encode,
    factors: ArrayLike,
    *,
    seed: int = 0,
    **settings: Any,
) -> float:
    """The interventional robustness of codes, in [0, 1]; 1: no latent heeds a second factor.

        strays[d, k] = mean over values v of Q(|z_d - mean|, points with factor k at v),
        IRS = sum_d w_d max_k (1 - strays[d, k] / w_d) / sum_d w_d,   w_d = max |z_d - mean|

    with Q the quantile `quantile` (0.99; 1.0, the maximum, is the paper's). Clipped below at 0.

    Arguments: codes (N, D) with factors (N, K); or a function with the sizes of the factors
    (`pairs.source` has its contract), of which `train` (10,000) points are drawn. `bins` (20) is
    into how many equal ranges a factor's indices are cut first; None: each value for itself. These
    are the settings of disentanglement_lib. Latents that are constant do not count; without any
    other the score is 0. Weights are in the units of the codes: scaling one latent moves it.

    Noise scores well above 0, .36 where it is Gaussian and of 10,000 points: the 0.99 quantile is
    far below the maximum. Compare with a floor.

    Raises DataError for bad arrays (see `Points.of`), UsageError for bad settings.

    Source: Suter, Miladinovic, Schölkopf, Bauer, "Robustly Disentangled Causal Mechanisms" (ICML
    2019), as in disentanglement_lib, but that what it returns as the number of active latents is
    the sum of their codes; `measure`'s details have which they are.
    """
    given = source(codes, factors)
    return measure(given, seed=seed, resamples=0, **settings)["irs"].score


def measure(
    points: Points | Source,
    *,
    seed: int = 0,
    resamples: int = 0,
    train: int = 10_000,
    quantile: float = 0.99,
    bins: int | None = 20,
) -> dict[str, Measured]:
    """`irs`. A resample draws the points again.

    `details`: `active` (D,) which latents are not constant, `matrix` (D, K) of 1 - strays / w, 0
    for the constant.
    """
    at_least_one(train=train)
    if not 0 <= quantile <= 1:
        raise UsageError(f"quantile must be in [0, 1], got {quantile}")
    drawn = as_source(points).points(train, np.random.default_rng(seed))
    active = np.ptp(drawn.codes, axis=0) > 0
    latents = np.ascontiguousarray(drawn.codes[:, active].T)
    cut = drawn.factors if bins is None else equal_width_bins(drawn.factors.astype(float), bins)
    groups = list(cut.T)
    score, scores = _score(latents, groups, quantile)
    matrix = np.zeros((len(active), len(groups)))
    matrix[active] = scores
    rows = resampled_rows(len(drawn), resamples, seed)
    again = [_score(latents[:, own], [g[own] for g in groups], quantile)[0] for own in rows]
    return {"irs": Measured(score, np.array(again), {"active": active, "matrix": matrix})}


def _score(
    latents: Floats, groups: list[NDArray[np.int64]], quantile: float
) -> tuple[float, Floats]:
    """The score of latents (D, N), and 1 - strays / w, (D, K)."""
    at_all = np.abs(latents - latents.mean(1, keepdims=True)).max(1, initial=0)
    strays = np.stack([_strays(latents, group, quantile) for group in groups], axis=1)
    moving = at_all > 0  # a resample may have caught one value of a latent only
    if not moving.any():
        return 0.0, np.zeros_like(strays)
    matrix = 1 - strays / np.where(moving, at_all, 1)[:, None]
    return float(np.average(matrix.max(1).clip(0), weights=at_all)), matrix


def _strays(latents: Floats, group: NDArray[np.int64], quantile: float) -> Floats:
    """(D,): the quantile of |z - mean| within a group, averaged over the groups that occur."""
    order = np.argsort(group, kind="stable")
    ends = np.bincount(group).cumsum()[:-1]
    parts = [part for part in np.split(latents[:, order], ends, axis=1) if part.shape[1]]
    return np.mean(
        [_upper(np.abs(part - part.mean(1, keepdims=True)), quantile) for part in parts], axis=0
    )


def _upper(values: Floats, quantile: float) -> Floats:
    """The quantile along the last axis, as np.quantile interpolates it but without its overhead.

    There are a hundred small groups a resample, and of a group of 300 this takes a quarter of the
    time: only the two values on either side of the quantile need their place.
    """
    place = quantile * (values.shape[-1] - 1)
    low = int(place)
    high = min(low + 1, values.shape[-1] - 1)
    values = np.partition(values, (low, high), axis=-1)
    return values[..., low] + (place - low) * (values[..., high] - values[..., low])


METRIC = Metric(names=("irs",), measure=measure)
