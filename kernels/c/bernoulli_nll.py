"""Launchers of bernoulli_nll.c, of the signatures of `betavae_core.kernels.bernoulli_nll`."""

from __future__ import annotations

from torch import Tensor

from betavae_core.kernels.c.launch import converted, launch, rows


def bernoulli_nll_fwd(logits: Tensor, x: Tensor, levels: int) -> Tensor:
    """nll (B,) float32 from logits (B, P) and x (B, P), uint8 or floating."""
    B, P = logits.shape
    scores, grey = rows(logits, B, P), rows(x, B, P)
    nll = scores.new_empty(B)
    launch(
        "bernoulli_nll_fwd",
        scores, scores.stride(0), grey, grey.stride(0), int(levels),
        B, P, nll,
    )  # fmt: skip
    return nll


def bernoulli_nll_bwd(logits: Tensor, x: Tensor, levels: int, dnll: Tensor) -> Tensor:
    """dlogits (B, P) like logits, contiguous, from dnll (B,)."""
    B, P = logits.shape
    scores, grey, g = rows(logits, B, P), rows(x, B, P), rows(dnll, B)
    dlogits = scores.new_empty((B, P))
    launch(
        "bernoulli_nll_bwd",
        scores, scores.stride(0), grey, grey.stride(0), int(levels),
        B, P, g, dlogits,
    )  # fmt: skip
    return converted(dlogits, logits.dtype)
