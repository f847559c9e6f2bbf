"""Launchers of convolution.c and convolution_gradient.c, on a CPU that multiplies bfloat16.

Of kernels of 4x4 at stride 2 and padding 1. Images are read as bfloat16 with the channels last,
weights (C, F, 4, 4) and biases as float32, in which their gradients come. A launcher raises
ValueError for sizes that its kernel does not take.
"""

from __future__ import annotations

import torch
from torch import Tensor

from betavae_core.kernels.c.launch import launch, new, places, read

_THIN = 4  # as in bfloat16.h
_APART, _PART = 8, 2048  # parts of a batch, at most, that are added up apart; their pixels
_TOGETHER = 128  # pairs of pixels, or so, over which weights are added up at a time


def fits(F: int, C: int, height: float, width: float) -> bool:
    """Whether the kernels take coarse images (B, C, height, width) and fine ones of F channels."""
    fine = F <= _THIN or F % 32 == 0
    return fine and C % 32 == 0 and width % 4 == height % 1 == 0


def conv(fine: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """(B, C, H, W) from (B, F, 2H, 2W), plus the bias, then a ReLU if `relu`."""
    B, F, H, W = _halved(fine)
    C = len(weight)
    _require(F, C, H, W)
    fine, w, b = image(fine), _parameter(weight, C, F, 4, 4), _bias(bias, C)
    coarse = new(torch.bfloat16, B, C, H, W)
    packed, room = places(8 * F * C), places(torch.get_num_threads() * (H + 1) * (2 * W + 2) * F)
    launch(
        "conv",
        fine, w, b, int(relu),
        B, H, W, F, C, coarse, packed, room,
    )  # fmt: skip
    return coarse


def conv_transpose(coarse: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """(B, F, 2H, 2W) from (B, C, H, W), plus the bias, then a ReLU if `relu`."""
    B, C, H, W = coarse.shape
    F = weight.shape[1]
    _require(F, C, H, W)
    coarse, w, b = image(coarse), _parameter(weight, C, F, 4, 4), _bias(bias, F)
    fine = new(torch.bfloat16, B, F, 2 * H, 2 * W)
    thin = (2 * H + 2) * (2 * W + 2) * F + (W + 2) * 16 * F
    place = thin if F <= _THIN else (H + 2) * (W + 2) * C // 2
    packed, room = places(8 * F * C), places(torch.get_num_threads() * place)
    launch(
        "conv_transpose_thin" if F <= _THIN else "conv_transpose",
        coarse, w, b, int(relu),
        B, H, W, F, C, fine, packed, room,
    )  # fmt: skip
    return fine


def conv_weights(fine: Tensor, coarse: Tensor) -> Tensor:
    """The weights' gradient (C, F, 4, 4): of one image the values, of the other the gradient."""
    B, F, H, W = _halved(fine)
    C = coarse.shape[1]
    _require(F, C, H, W)
    fine, coarse = image(fine), read(coarse, torch.bfloat16, B, C, H, W)
    dw = new(torch.float32, C, F, 4, 4)
    rows = min(H, max(1, 2 * _TOGETHER // W))
    together = max(1, 2 * _TOGETHER // (H * W))
    fine_rows, coarse_rows = together * (2 * rows + 2), together * rows
    place = fine_rows * 2 * W * F + 16 + coarse_rows * W // 2 * C + (W + 1) * F + 8
    apart = min(_APART, max(2, B * H * W // _PART))
    parts, room = places(apart * 16 * F * C), places(torch.get_num_threads() * place)
    launch(
        "conv_weights",
        fine, coarse, B, H, W, F, C,
        dw, parts, apart, room, place, rows, together,
    )  # fmt: skip
    return dw


def conv_relu(dy: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient before a ReLU from that of its result y, and its sum over images and pixels."""
    B, C, H, W = dy.shape
    dy, y = image(dy), read(y, torch.bfloat16, B, C, H, W)
    before, db, parts = torch.empty_like(dy), new(torch.float32, C), places(_APART * C)
    launch(
        "conv_relu",
        dy, y, B * H * W, C,
        before, db, parts, _APART,
    )  # fmt: skip
    return before, db


def image(tensor: Tensor) -> Tensor:
    """(B, channels, height, width) as the kernels read it."""
    return read(tensor, torch.bfloat16, *tensor.shape)


def _parameter(tensor: Tensor, *shape: int) -> Tensor:
    return read(tensor, torch.float32, *shape)


def _bias(bias: Tensor | None, channels: int) -> Tensor:
    """The bias, or an empty tensor where there is none: its address is 0, for C no bias."""
    return new(torch.float32, 0) if bias is None else _parameter(bias, channels)


def _halved(fine: Tensor) -> tuple[int, int, int, int]:
    """The sizes of the fine image, with the sides of the coarse one."""
    B, F, height, width = fine.shape
    if height % 2 or width % 2:
        raise ValueError(f"the C kernels need images of even sides, got {height} x {width}")
    return B, F, height // 2, width // 2


def _require(F: int, C: int, H: int, W: int) -> None:
    if not fits(F, C, H, W):
        raise ValueError(f"the C kernels do not take {F} and {C} channels at {H} x {W}")
