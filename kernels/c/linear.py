"""Launchers of linear.c, on a CPU that multiplies bfloat16: everything is read and written so.

They raise ValueError for sizes that are not even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import launch, new, places, read

_BF16 = torch.bfloat16
_PANEL = 32  # as in linear.c


def fits(*sizes: int) -> bool:
    """Whether the kernels take a batch, an input and an output of these sizes."""
    return all(size > 0 and size % 2 == 0 for size in sizes)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """(B, N) from (B, K) and (N, K), plus the bias (N,), then a ReLU if `relu`."""
    B, K, N = _sizes(x, weight)
    x, w = read(x, _BF16, B, K), read(weight, _BF16, N, K)
    b = new(_BF16, 0) if bias is None else read(bias, _BF16, N)  # for C, address 0 is no bias
    y, room = new(_BF16, B, N), places(torch.get_num_threads() * 16 * K)
    launch("linear", x, w, b, int(relu), B, K, N, y, room)
    return y


def linear_gradient(
    x: Tensor, weight: Tensor, y: Tensor | None, dy: Tensor, needs_dx: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """(dx, dweight, dbias) from dy (B, N); `y` is the result of a ReLU, if there was one."""
    B, K, N = _sizes(x, weight)
    x, w, dy = read(x, _BF16, B, K), read(weight, _BF16, N, K), read(dy, _BF16, B, N)
    result = new(_BF16, 0) if y is None else read(y, _BF16, B, N)
    dx, dw, db = new(_BF16, *((B, K) if needs_dx else (0,))), new(_BF16, N, K), new(_BF16, N)
    before, met = new(_BF16, B, N), places(B * (N + _PANEL) // 2)
    room = places(torch.get_num_threads() * 16 * max(B, N))
    launch(
        "linear_gradient",
        x, w, result, dy, B, K, N,
        dx, dw, db, before, met, room,
    )  # fmt: skip
    return dx if needs_dx else None, dw, db


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, int, int]:
    """Of the batch, the input and the output."""
    if x.ndim != 2 or weight.ndim != 2 or not fits(*x.shape, len(weight)):
        got = f"{tuple(x.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"the C kernels need matrices of even sizes, got {got}")
    return len(x), x.shape[1], len(weight)
