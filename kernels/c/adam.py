"""The launcher of adam.c."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import launch, with_memory

_DTYPES = 4 * (torch.float32,) + 2 * (torch.bfloat16,)


def adam(
    weights: Sequence[Tensor],
    means: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[Tensor],
    copies: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Update the weights, both moments and the weights' copies in place.

    All of a weight are contiguous and of its shape: `copies` and `gradients` bfloat16, the others
    float32. `steps` are scalars, which count this step already. Raises ValueError for others.
    """
    gradients = [gradient.contiguous() for gradient in gradients]
    rows = list(zip(weights, means, squares, steps, copies, gradients, strict=True))
    for row in rows:
        shapes = 3 * (row[0].shape,) + ((),) + 2 * (row[0].shape,)
        for tensor, dtype, shape in zip(row, _DTYPES, shapes, strict=True):
            _require(tensor, dtype, shape)
    addresses = [[*(t.data_ptr() for t in row), row[0].numel()] for row in rows]
    launch("adam", torch.tensor(addresses), len(rows), lr, beta1, beta2, eps)


def _require(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raises ValueError for a tensor that C would misread."""
    fits = tensor.shape == shape and tensor.dtype == dtype and tensor.is_cpu
    if not fits or not tensor.is_contiguous() or tensor.is_neg():
        got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"adam in C needs a contiguous {dtype} {tuple(shape)}, got {got}")
    with_memory(tensor)
