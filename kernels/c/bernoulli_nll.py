"""Launchers of bernoulli_nll.c, of the signatures of `betavae_core.kernels.bernoulli_nll`."""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import converted, launch, rows
from betavae_core.kernels.c.pixels import read_pixels


def bernoulli_nll_fwd(logits: Tensor, x: Tensor, levels: int) -> Tensor:
    """nll (B,) float32 from logits (B, P) and x (B, P), uint8 or floating."""
    B, P = logits.shape
    scores, t = read_pixels(logits, x, levels)
    nll = t.new_empty(B)
    launch(
        "bernoulli_nll_fwd",
        scores, scores.stride(0), scores.dtype is torch.bfloat16, t, t.stride(0),
        B, P, nll,
    )  # fmt: skip
    return nll


def bernoulli_nll_bwd(logits: Tensor, x: Tensor, levels: int, dnll: Tensor) -> Tensor:
    """dlogits (B, P) like logits, contiguous, from dnll (B,)."""
    B, P = logits.shape
    scores, t = read_pixels(logits, x, levels)
    g, dlogits = rows(dnll, B), scores.new_empty(B, P)
    launch(
        "bernoulli_nll_bwd",
        scores, scores.stride(0), scores.dtype is torch.bfloat16, t, t.stride(0),
        B, P, g, dlogits,
    )  # fmt: skip
    return converted(dlogits, logits.dtype)
