"""What the likelihoods' kernels read: logits, and targets in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import rows


def read_pixels(logits: Tensor, x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Logits (B, P) in float32 or bfloat16, and x / levels in float32, uint8 or floating before."""
    B, P = logits.shape
    t = rows(x, B, P)
    return rows(logits, B, P, kept=torch.bfloat16), t if levels == 1 else t / levels
