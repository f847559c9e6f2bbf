"""The Bernoulli likelihood, on logits, stable for any logit.

Source: Kingma, Welling (2014), appendix C.1. The targets are the grey levels x/levels themselves,
not a binarised draw; between 0 and 1 the value is a cross-entropy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def bernoulli_nll(logits: ArrayLike, x: ArrayLike, levels: int = 1) -> Array:
    """Minus the log-likelihood of each image, (B,), in nats, summed over everything but axis 0.

        t      = x/levels
        nll[b] = -Σ_p [t ln m + (1 - t) ln(1 - m)],      m = sigmoid(l)
               = Σ_p [t·softplus(-l) + (1 - t)·softplus(l)]
               = Σ_p [max(l, 0) - l·t + ln(1 + exp(-|l|))]

    logits, x: (B, ...). x holds `levels` grey levels above 0 (1 for 0/1 images, 255 for bytes) or
    floats in [0, 1] with levels = 1. The second line is the one computed: nothing in it overflows
    or cancels. An infinite logit takes the limit, that is 0·inf = 0: +inf costs 0 at t = 1 and
    inf at any other t, -inf costs 0 at t = 0. NaN stays NaN. Raises ValueError where the shapes
    differ or levels < 1.
    """
    logits, t = logits_and_targets(logits, x, levels)
    nll = _weighted(t, softplus(-logits)) + _weighted(1 - t, softplus(logits))
    return nll.sum(axis=tuple(range(1, nll.ndim)))


def bernoulli_nll_backward(logits: ArrayLike, x: ArrayLike, levels: int, dnll: ArrayLike) -> Array:
    """The gradient dlogits, (B, ...), from dnll (B,). There is none to x: it is data.

    softplus'(l) = sigmoid(l), so with the upstream g[b]

        ∂nll[b]/∂l = -t·sigmoid(-l) + (1 - t)·sigmoid(l) = sigmoid(l) - t
        dlogits    = g[b]·(sigmoid(l) - t).

    The middle form is the one computed: it does not cancel where sigmoid(l) is close to t = 1.
    """
    logits, t = logits_and_targets(logits, x, levels)
    return per_image(dnll, logits) * ((1 - t) * sigmoid(logits) - t * sigmoid(-logits))


def softplus(logits: Array) -> Array:
    """ln(1 + exp(l)) = max(l, 0) + ln(1 + exp(-|l|)): no exponential of a positive number."""
    return np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))


def sigmoid(logits: Array) -> Array:
    """1/(1 + exp(-l)) = exp(min(l, 0))/(1 + exp(-|l|)): no exponential of a positive number."""
    return np.exp(np.minimum(logits, 0)) / (1 + np.exp(-np.abs(logits)))


def logits_and_targets(logits: ArrayLike, x: ArrayLike, levels: int) -> tuple[Array, Array]:
    """The logits and the targets x/levels, both float64 and of one shape (B, ...)."""
    logits, x = np.asarray(logits, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if logits.shape != x.shape or logits.ndim < 1:
        raise ValueError(
            f"logits and x must share one shape (B, ...), got {logits.shape} and {x.shape}"
        )
    if levels < 1:
        raise ValueError(f"levels must be >= 1 (1 for 0/1 images, 255 for bytes), got {levels}")
    return logits, x / levels


def per_image(upstream: ArrayLike, logits: Array) -> Array:
    """The upstream gradient g (B,) as (B, 1, ...), so that it multiplies each image's pixels."""
    g = np.asarray(upstream, dtype=np.float64)
    if g.shape != logits.shape[:1]:
        raise ValueError(f"dnll must be {logits.shape[:1]}, one an image, got {g.shape}")
    return g.reshape(-1, *(1,) * (logits.ndim - 1))


def _weighted(weight: Array, value: Array) -> Array:
    """weight·value with 0·inf = 0, the limit of t·softplus(-l) as t -> 0."""
    return np.multiply(weight, value, where=weight != 0, out=np.zeros_like(value))
