"""Launchers of bernoulli_nll.c, of the signatures of `betavae_core.kernels.bernoulli_nll`."""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import converted, launch, rows

_HALF = torch.bfloat16  # which the kernels read and write as well as float32


def bernoulli_nll_fwd(logits: Tensor, x: Tensor, levels: int) -> Tensor:
    """nll (B,) float32 from logits (B, P) and x (B, P), uint8 or floating."""
    B, P = logits.shape
    scores, grey = rows(logits, B, P, kept=_HALF), rows(x, B, P)
    nll = grey.new_empty(B)
    launch(
        "bernoulli_nll_fwd",
        scores, scores.stride(0), scores.dtype is _HALF, grey, grey.stride(0), int(levels),
        B, P, nll,
    )  # fmt: skip
    return nll


def bernoulli_nll_bwd(logits: Tensor, x: Tensor, levels: int, dnll: Tensor) -> Tensor:
    """dlogits (B, P) like logits, contiguous, from dnll (B,)."""
    B, P = logits.shape
    scores, grey, g = rows(logits, B, P, kept=_HALF), rows(x, B, P), rows(dnll, B)
    dlogits = scores.new_empty(B, P)
    launch(
        "bernoulli_nll_bwd",
        scores, scores.stride(0), scores.dtype is _HALF, grey, grey.stride(0), int(levels),
        B, P, g, dlogits,
    )  # fmt: skip
    return converted(dlogits, logits.dtype)
