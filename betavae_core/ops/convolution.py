"""The convolutions of every architecture here in bfloat16, by the kernels in C.

A convolution of 4x4 at stride 2 and padding 1 and its transpose are each other's gradient, and the
gradient of the weights is one sum for both: three kernels, two passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from betavae_core.kernels.c import bfloat16
from betavae_core.kernels.c import convolution as kernels
from betavae_core.ops.backend import choose
from betavae_core.ops.fused import apply, compute_dtype, differentiable_once, transformed


def suits(x: Tensor, weight: Tensor, backend: str, transposed: bool) -> bool:
    """Whether the kernels can do `convolution` of images `x`, and do it faster than PyTorch."""
    if backend not in ("auto", "c") or compute_dtype(x) != torch.bfloat16:
        return False
    coarse, fine = weight.shape[:2]
    height, width = (n if transposed else n / 2 for n in x.shape[2:])
    fits = x.shape[1] == (coarse if transposed else fine)
    fits = fits and kernels.fits(fine, coarse, height, width)
    return fits and choose("auto", x) == choose("auto", weight) == "c" and bfloat16.preferred()


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
        ctx.transposed, ctx.dtype = transposed, x.dtype
        run = kernels.conv_transpose if transposed else kernels.conv
        x = kernels.image(x)
        y = run(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        watched = transformed() or torch.compiler.is_compiling()
        run = _formula if watched else _gradients
        x, weight, y = ctx.saved_tensors
        dx, dw, db = run(x, weight, y, dy, ctx.transposed, ctx.needs_input_grad)
        return _as(dx, ctx.dtype), _as(dw, weight.dtype), _as(db, weight.dtype), None, None


def _as(gradient: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return gradient if gradient is None else gradient.to(dtype)


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _gradients(
    x: Tensor, weight: Tensor, y: Tensor | None, dy: Tensor, transposed: bool, needs: Sequence[bool]
) -> Gradients:
    """Gradients of x, weight and bias, where needed; `y` is the result of a ReLU, if any."""
    dx = dw = None
    if y is None:
        db = dy.sum((2, 3), dtype=torch.float32).sum(0) if needs[2] else None
    else:
        dy, db = kernels.conv_relu(dy, y)
    if needs[0]:
        back = kernels.conv if transposed else kernels.conv_transpose
        dx = back(dy, weight, None, relu=False)
    if needs[1]:
        dw = kernels.conv_weights(dy, x) if transposed else kernels.conv_weights(x, dy)
    return dx, dw, db


def _formula(
    x: Tensor, weight: Tensor, y: Tensor | None, dy: Tensor, transposed: bool, needs: Sequence[bool]
) -> Gradients:
    """`_gradients` in plain PyTorch, for a traced or differentiated backward pass."""
    if y is not None:
        dy = torch.ops.aten.threshold_backward(dy, y, 0)
    geometry = [2, 2], [1, 1], [1, 1], transposed, [0, 0], 1
    wanted = [needs[0], needs[1], False]
    images = torch.ops.aten.convolution_backward(dy, x, weight.to(x.dtype), None, *geometry, wanted)
    dx, dw = (g if needed else None for g, needed in zip(images, wanted[:2], strict=False))
    return dx, dw, dy.sum((0, 2, 3)) if needs[2] else None
