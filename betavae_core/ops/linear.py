"""Linear layers in bfloat16 by the kernels in C: a pass forward, and one back for all gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from betavae_core.kernels.c import bfloat16
from betavae_core.kernels.c import linear as kernels
from betavae_core.ops.backend import choose
from betavae_core.ops.fused import apply, compute_dtype, differentiable_once, transformed


def suits(x: Tensor, weight: Tensor, backend: str) -> bool:
    """Whether the kernels can do `linear`, and do it faster than PyTorch.

    Of weights in bfloat16: to cast others would take longer than the kernels gain.
    """
    if backend not in ("auto", "c") or weight.dtype != torch.bfloat16:
        return False
    fits = x.ndim == 2 and kernels.fits(*x.shape, len(weight))
    fits = fits and compute_dtype(x) == torch.bfloat16
    return fits and choose("auto", x) == choose("auto", weight) == "c" and bfloat16.preferred()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """x (B, K) times the transposed weight (N, K), plus the bias (N,), then a ReLU if `relu`."""
    return apply(_Linear, x, weight, bias, relu)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        ctx.dtype, x = x.dtype, x.to(torch.bfloat16)
        y = kernels.linear(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        watched = transformed() or torch.compiler.is_compiling()
        run = _formula if watched else kernels.linear_gradient
        needs_dx, _, has_bias, _ = ctx.needs_input_grad
        x, weight, y = ctx.saved_tensors
        dx, dw, db = run(x, weight, y, dy, needs_dx)
        return None if dx is None else dx.to(ctx.dtype), dw, db if has_bias else None, None


def _formula(
    x: Tensor, weight: Tensor, y: Tensor | None, dy: Tensor, needs_dx: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients in plain PyTorch, for a traced or differentiated backward pass."""
    if y is not None:
        dy = torch.ops.aten.threshold_backward(dy, y, 0)
    return dy @ weight if needs_dx else None, dy.t() @ x, dy.sum(0)
