"""The Bernoulli likelihood on logits, summed over pixels.

    nll[b] = Σ_p  max(l, 0) - l t + ln(1 + exp(-|l|))        t = x / levels

the cross-entropy of a pixel of value t in [0, 1] and probability sigmoid(l), stable for any logit.

Source: Kingma, Welling 2014, appendix C.1; targets are grey values and not binarised, as in
Higgins et al. 2017 and its successors.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from betavae_core.ops.fused import spare
from betavae_core.ops.pixelwise import PixelLikelihood, bounded, wide


def bernoulli_nll(logits: Tensor, x: Tensor, levels: int = 1, *, backend: str = "auto") -> Tensor:
    """Negative log-likelihood in nats, (B,), of `x` under Bernoulli(sigmoid(logits)).

    Args:
        logits: (B, ...), any floating dtype.
        x: the same shape: uint8 with `levels` grey levels (1 for 0/1 images, 255 for bytes), or
            floating point in [0, 1] with levels = 1. It gets no gradient.
        backend: `auto`, `torch`, `triton` or `c`.

    Raises:
        ValueError: the shapes differ.
        UsageError: the backend asked for cannot run here.
    """
    return _op(logits, x, backend, levels)


def forward_formula(logits: Tensor, t: Tensor) -> Tensor:
    """The op in plain PyTorch on (B, P), with targets t in [0, 1].

    Not F.binary_cross_entropy_with_logits: its (1 - t) l - logsigmoid(l) cancels for l << 0.
    """
    logits = bounded(logits)
    positive = logits.relu()
    linear = torch.addcmul(positive, logits, t, value=-1, out=spare(positive))
    return linear.sum(1) + _softplus(logits.abs_().neg_(), spare(linear))


def _softplus(x: Tensor, place: Tensor | None) -> Tensor:
    """Σ ln(1 + exp(x)) of each row, in place of x <= 0 and in `place`, of its shape.

    Confident pixels reach numbers below the normal range, with which exp and log1p take up to two
    hundred times as long. So x stops above that range; and ln(1 + e) is ln(w) of the rounded
    w = 1 + e and what the rounding lost, to a relative rounding however small e is.
    """
    lowest = log(torch.finfo(x.dtype).tiny) + 0.01
    e = torch.clamp(x, min=lowest, out=spare(x)).exp_()
    kept = torch.add(e, 1, out=place).sub_(1)
    lost = e.sub_(kept).sum(1)
    return kept.add_(1).log_().sum(1) + lost


def backward_formula(logits: Tensor, t: Tensor, dnll: Tensor) -> Tensor:
    """Its gradient: dlogits = dnll (sigmoid(l) - t)."""
    p = wide(logits).sigmoid()
    slope = torch.sub(p, t, out=spare(p))
    return torch.mul(slope, dnll[:, None], out=spare(slope))


_op = PixelLikelihood("bernoulli_nll", "", forward_formula, backward_formula)
