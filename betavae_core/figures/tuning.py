"""What a latent is tuned to: its mean code for every value of one factor, or of several."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from betavae_core.errors import UsageError
from betavae_core.figures.inputs import finite


def mean_codes(codes: Any, *factors: Any) -> tuple[list[NDArray[Any]], NDArray[np.float64]]:
    """The mean code over all images that share the values of `factors`, the others free.

    codes    (N, D)
    factors  one or more arrays (N,): the values of a factor
    returns  the n_k values of each factor, ascending, and the means (D, n_1, n_2, …); NaN for
             values that no image has together

    So (y, x) gives the maps, and (shape, scale) the curves, that `factors` draws. Raises UsageError
    when shapes disagree.
    """
    shape = np.shape(codes)
    if len(shape) != 2 or not factors or any(np.shape(factor) != shape[:1] for factor in factors):
        shapes = [np.shape(factor) for factor in factors]
        raise UsageError(f"codes must be (N, D) and factors (N,), got {shape} and {shapes}")
    codes = finite("codes", codes, shape)
    values, places = zip(*(np.unique(f, return_inverse=True) for f in factors), strict=True)
    counts = tuple(map(len, values))
    cell = np.ravel_multi_index(places, counts)
    total = prod(counts)
    sums = [np.bincount(cell, weights=column, minlength=total) for column in codes.T]
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: no image there
        means = np.array(sums) / np.bincount(cell, minlength=total)
    return list(values), means.reshape(-1, *counts)
