"""Launchers of update.c: they change weights, their moments and their copies in place.

All of a weight are contiguous and of its shape: `copies` and `gradients` bfloat16, the others
float32. `steps` are scalars, which count this step already. A launcher raises ValueError for
others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import launch, with_memory

Tensors = Sequence[Tensor]
_MOMENTS = 2  # of which a rule may have fewer: address 0, which C does not read


def adam(
    weights: Tensors,
    moments: Sequence[Tensors],
    steps: Tensors,
    copies: Tensors,
    gradients: Tensors,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """A step of Adam; its moments are the means of the gradients and of their squares."""
    _launch("adam", (weights, *moments), steps, copies, gradients, lr, beta1, beta2, eps)


def adagrad(
    weights: Tensors,
    moments: Sequence[Tensors],
    steps: Tensors,
    copies: Tensors,
    gradients: Tensors,
    *,
    lr: float,
    eps: float,
) -> None:
    """A step of Adagrad; its only moment is the sum of the gradients' squares."""
    _launch("adagrad", (weights, *moments), steps, copies, gradients, lr, eps)


def _launch(
    kernel: str,
    wide: Sequence[Tensors],
    steps: Tensors,
    copies: Tensors,
    gradients: Tensors,
    *settings: float,
) -> None:
    gradients = [gradient.contiguous() for gradient in gradients]
    missing = [0] * (1 + _MOMENTS - len(wide))
    addresses = []
    for *floats, step, copy, gradient in zip(*wide, steps, copies, gradients, strict=True):
        shape = floats[0].shape
        at = [_address(kernel, tensor, torch.float32, shape) for tensor in floats]
        at += [*missing, _address(kernel, step, torch.float32, ())]
        at += [_address(kernel, tensor, torch.bfloat16, shape) for tensor in (copy, gradient)]
        addresses.append([*at, floats[0].numel()])
    launch(kernel, torch.tensor(addresses), len(addresses), *settings)
    del gradients  # which had to live until C returned


def _address(kernel: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """Raises ValueError for a tensor that C would misread."""
    fits = tensor.shape == shape and tensor.dtype == dtype and tensor.is_cpu
    if not fits or not tensor.is_contiguous() or tensor.is_neg():
        got = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"{kernel} in C needs a contiguous {dtype} {tuple(shape)}, got {got}")
    return with_memory(tensor).data_ptr()
