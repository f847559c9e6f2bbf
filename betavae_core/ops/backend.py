"""Which backend runs an op: `auto` may choose, a backend asked for by name may not be replaced."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from betavae_core.errors import UsageError

BACKENDS = ("auto", "torch", "triton")
HAS_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def uses_triton(backend: str, *tensors: Tensor) -> bool:
    """Whether an op on `tensors` runs its Triton kernel.

    `auto` takes Triton for CUDA tensors of at most 32 bits when Triton imports, else PyTorch. An
    explicit `triton` that cannot run raises UsageError saying how to mend it; it never falls back.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch" or (backend == "auto" and not tensors[0].is_cuda):
        return False
    obstacle = _obstacle(tensors)
    if obstacle and backend == "triton":
        raise UsageError(f"backend 'triton' {obstacle}, or use backend 'torch' (or 'auto')")
    return not obstacle


def _obstacle(tensors: tuple[Tensor, ...]) -> str:
    """Why Triton cannot run on `tensors` and the remedy, or nothing."""
    if not HAS_TRITON:
        return "needs the triton package, which is not installed: `pip install triton` (Linux)"
    if any(t.dtype == torch.float64 for t in tensors):
        return "computes in float32, got float64: convert the tensors"
    if not (_INTERPRETED or all(t.is_cuda for t in tensors)):
        return f"needs CUDA tensors, got {tensors[0].device}: move them with .cuda()"
    return ""
