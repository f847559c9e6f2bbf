"""Launchers of gaussian_nll.c, of the signatures of `betavae_core.kernels.gaussian_nll`."""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import converted, launch, rows
from betavae_core.kernels.c.pixels import read_pixels


def gaussian_nll_fwd(logits: Tensor, x: Tensor, levels: int, sigma: float) -> Tensor:
    """nll (B,) float32 from logits (B, P) and x (B, P), uint8 or floating."""
    B, P = logits.shape
    scores, t = read_pixels(logits, x, levels)
    nll = t.new_empty(B)
    constant = P * (log(sigma) + log(2 * pi) / 2)
    launch(
        "gaussian_nll_fwd",
        scores, scores.stride(0), scores.dtype is torch.bfloat16, t, t.stride(0),
        float(sigma), constant, B, P, nll,
    )  # fmt: skip
    return nll


def gaussian_nll_bwd(logits: Tensor, x: Tensor, levels: int, sigma: float, dnll: Tensor) -> Tensor:
    """dlogits (B, P) like logits, contiguous, from dnll (B,)."""
    B, P = logits.shape
    scores, t = read_pixels(logits, x, levels)
    g, dlogits = rows(dnll, B), scores.new_empty(B, P)
    launch(
        "gaussian_nll_bwd",
        scores, scores.stride(0), scores.dtype is torch.bfloat16, t, t.stride(0),
        float(sigma), B, P, g, dlogits,
    )  # fmt: skip
    return converted(dlogits, logits.dtype)
