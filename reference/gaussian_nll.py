"""The Gaussian likelihood of fixed width, its mean the sigmoid of the logits.

Source: Kingma, Welling (2014), appendix C.2, with a sigmoid on the mean (images lie in [0, 1]) and
one fixed sigma for every pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.reference.bernoulli_nll import logits_and_targets, per_image, sigmoid

Array = NDArray[np.float64]


def gaussian_nll(logits: ArrayLike, x: ArrayLike, levels: int, sigma: float) -> Array:
    """Minus the log-density of each image, (B,), in nats, summed over everything but axis 0.

        t      = x/levels,   m = sigmoid(l),   r = (m - t)/sigma
        nll[b] = Σ_p [r²/2 + ln sigma + ln(2π)/2]

    logits, x: (B, ...); x as in `bernoulli_nll`; sigma > 0 in units of t. A density may exceed 1,
    so this may be negative. Any logit is finite in m, and so in the value; NaN stays NaN. Raises
    ValueError where the shapes differ, levels < 1 or sigma is not a positive number.
    """
    logits, t = logits_and_targets(logits, x, levels)
    r = (sigmoid(logits) - t) / _positive(sigma)
    nll = r**2 / 2 + np.log(sigma) + np.log(2 * np.pi) / 2
    return nll.sum(axis=tuple(range(1, nll.ndim)))


def gaussian_nll_backward(
    logits: ArrayLike, x: ArrayLike, levels: int, sigma: float, dnll: ArrayLike
) -> Array:
    """The gradient dlogits, (B, ...), from dnll (B,).

    With the upstream g[b], and dm/dl = m(1 - m) = sigmoid(l)·sigmoid(-l):

        ∂nll[b]/∂m = r/sigma = (m - t)/sigma²
        dlogits    = g[b]·(m - t)/sigma²·m·(1 - m).
    """
    logits, t = logits_and_targets(logits, x, levels)
    m, complement = sigmoid(logits), sigmoid(np.negative(logits))
    return per_image(dnll, logits) * (m - t) / _positive(sigma) ** 2 * m * complement


def _positive(sigma: float) -> float:
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma must be a finite number > 0, got {sigma}")
    return sigma
