"""The convolutions of every architecture here in bfloat16, by the kernels in C.

A convolution of 4x4 at stride 2 and padding 1 and its transpose are each other's gradient, and the
gradient of the weights is one sum for both: three kernels, two passes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from betavae_core.kernels.c import convolution as kernels
from betavae_core.ops.backend import choose
from betavae_core.ops.fused import apply, transformed


def suits(x: Tensor, weight: Tensor, backend: str, transposed: bool) -> bool:
    """Whether the kernels can do `convolution` of these, and do it faster than PyTorch."""
    if backend not in ("auto", "c") or compute_dtype(x) != torch.bfloat16 or transformed():
        return False
    height, width = (n if transposed else n / 2 for n in x.shape[2:])
    fits = kernels.fits(weight.shape[1], weight.shape[0], height, width)
    return fits and choose("auto", x) == choose("auto", weight) == "c" and kernels.preferred()


def compute_dtype(x: Tensor) -> torch.dtype:
    """What is computed in: autocast's dtype where there is autocast, else that of `x`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, transposed: bool
) -> Tensor:
    """The (transposed) convolution of `x` with `weight` and `bias`, in bfloat16, then a ReLU.

    Args:
        x: (B, F, 2H, 2W), or (B, C, H, W) if `transposed`, which gives the other.
        weight, bias: (C, F, 4, 4) and (C,), or (F,) if `transposed`.
    """
    return apply(_Convolution, x, weight, bias, relu, transposed)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, transposed: bool
    ) -> Tensor:
        ctx.relu, ctx.transposed, ctx.dtype = relu, transposed, x.dtype
        run = kernels.conv_transpose if transposed else kernels.conv
        x = kernels.image(x)
        y = run(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        run = _formula if transformed() else _gradients
        dx, dw, db = run(x, weight, y, dy, ctx.relu, ctx.transposed, ctx.needs_input_grad[0])
        dx = None if dx is None else dx.to(ctx.dtype)
        biased = ctx.needs_input_grad[2]
        return dx, dw.to(weight.dtype), db.to(weight.dtype) if biased else None, None, None


Gradients = tuple[Tensor | None, Tensor, Tensor]


def _gradients(
    x: Tensor, weight: Tensor, y: Tensor, dy: Tensor, relu: bool, transposed: bool, needs_dx: bool
) -> Gradients:
    dy, db = kernels.conv_relu(dy, y) if relu else (kernels.image(dy), dy.sum((0, 2, 3)))
    back = kernels.conv if transposed else kernels.conv_transpose
    dx = back(dy, weight, None, relu=False) if needs_dx else None
    dw = kernels.conv_weights(dy, x) if transposed else kernels.conv_weights(x, dy)
    return dx, dw, db


def _formula(
    x: Tensor, weight: Tensor, y: Tensor, dy: Tensor, relu: bool, transposed: bool, needs_dx: bool
) -> Gradients:
    """The same in plain PyTorch, for those who watch a backward pass: kernels only read memory."""
    if relu:
        dy = torch.ops.aten.threshold_backward(dy, y, 0)
    geometry = [2, 2], [1, 1], [1, 1], transposed, [0, 0], 1
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, x, weight.to(x.dtype), None, *geometry, [needs_dx, True, False]
    )
    return (dx if needs_dx else None), dw, dy.sum((0, 2, 3))
