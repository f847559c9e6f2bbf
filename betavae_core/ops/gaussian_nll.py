"""The Gaussian likelihood with a fixed σ, summed over pixels.

    nll[b] = Σ_p  r² / 2 + ln σ + ln(2π) / 2        r = (sigmoid(l) - t) / σ,  t = x / levels

The mean of a pixel is sigmoid(l), in [0, 1] like the pixel itself, so that a decoder's output is
read the same way under either likelihood. The constants are kept: nats mean nats.

Source: Kingma, Welling 2014, appendix C.2, with σ fixed as in Higgins et al. 2017.
"""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from betavae_core.ops.fused import spare
from betavae_core.ops.pixelwise import PixelLikelihood, wide


def gaussian_nll(
    logits: Tensor, x: Tensor, levels: int = 1, sigma: float = 1.0, *, backend: str = "auto"
) -> Tensor:
    """Negative log-density in nats, (B,), of `x` under N(sigmoid(logits), sigma²).

    Args:
        logits, x, levels, backend: as in `bernoulli_nll`.
        sigma: the standard deviation of a pixel, > 0, in units of the pixel range [0, 1].

    Raises:
        ValueError: the shapes differ, or sigma is not a positive number.
        UsageError: the backend asked for cannot run here.
    """
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be a positive number, got {sigma}")
    return _op(logits, x, backend, levels, sigma)


def forward_formula(logits: Tensor, t: Tensor, sigma: float) -> Tensor:
    """The op in plain PyTorch on (B, P), with targets t in [0, 1]."""
    mean = wide(logits).sigmoid()
    residual = torch.sub(mean, t, out=spare(mean))
    squares = torch.square(residual, out=spare(residual)).sum(1)
    return squares / (2 * sigma**2) + t.shape[1] * (log(sigma) + 0.5 * log(2 * pi))


def backward_formula(logits: Tensor, t: Tensor, sigma: float, dnll: Tensor) -> Tensor:
    """Its gradient: with m = sigmoid(l), dlogits = dnll (m - t) / σ² · m (1 - m)."""
    mean = wide(logits).sigmoid()
    residual = mean - t
    slope = torch.mul(residual, dnll[:, None] / sigma**2, out=spare(residual))
    link = torch.addcmul(mean, mean, mean, value=-1, out=spare(mean))
    return torch.mul(slope, link, out=spare(slope))


_op = PixelLikelihood("gaussian_nll", ", float sigma", forward_formula, backward_formula)
