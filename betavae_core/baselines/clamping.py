"""The clamp of DC-IGN: in a mini-batch that varies one factor, one latent may vary.

For latents z (G, M, D) of G mini-batches of M images, with z̄ the mean over a mini-batch and a the
active latent of each:

    forward     z_d where d = a, else z̄_d
    backward    the gradient from above where d = a, else strength · (z_d - z̄_d)

So the decoder cannot learn of the varying factor from an inactive latent, and the encoder is drawn
towards one value of it for the whole mini-batch: invariance to that factor.

Source: Kulkarni, Whitney, Kohli, Tenenbaum 2015, "Deep convolutional inverse graphics network",
sections 3.2 (the clamp) and 3.3 (the gradient of the inactive, scaled by 1/100).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def clamp(z: Tensor, active: Tensor, strength: float) -> Tensor:
    """The latents (G, M, D) with all but the active one, (G,), at their mini-batch's mean.

    The gradient of the inactive ones is *replaced*: whatever the loss, it is `strength` (z - z̄).
    Where the loss is a mean over B images, the paper's 1/100 an image is strength = 1 / (100 B).
    """
    result: Tensor = _Clamp.apply(z, active, strength)
    return result


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, active: Tensor, strength: float) -> Tensor:
        mean = z.mean(1, keepdim=True)
        free = F.one_hot(active, z.shape[2]).bool()[:, None]
        ctx.save_for_backward(z - mean, free)
        ctx.strength = strength
        return torch.where(free, z, mean)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        difference, free = ctx.saved_tensors
        return torch.where(free, upstream, ctx.strength * difference), None, None
