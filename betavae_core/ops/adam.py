"""A step of Adam: of weights, or of weights that also have copies in bfloat16.

By PyTorch's fused kernel; the copies of a CPU in one pass by the kernel in C.
Source: Kingma, Ba 2015, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from betavae_core.kernels.c import adam as kernels
from betavae_core.ops.backend import choose


class Weights(NamedTuple):
    """What a step changes, except for `steps`, scalars that count it already."""

    weights: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]


class Settings(NamedTuple):
    """The learning rate, both decays, and ε."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


def update(of: Weights, gradients: Sequence[Tensor], settings: Settings) -> None:
    """Change weights, means and squares in place."""
    torch._fused_adam_(
        of.weights, [*gradients], of.means, of.squares, [], of.steps,
        weight_decay=0.0, amsgrad=False, maximize=False, **settings._asdict(),
    )  # fmt: skip


def update_with_copies(
    of: Weights,
    copies: Sequence[Tensor],
    gradients: Sequence[Tensor],
    settings: Settings,
    backend: str,
) -> None:
    """The same from gradients in bfloat16, and then the copies are the weights rounded to it.

    On `torch` (and on a GPU) all gradients are cast in one call, and all weights in another.
    """
    if choose(backend, of.weights[0]) == "c":
        kernels.adam(*of, copies, gradients, **settings._asdict())
        return
    wide = [torch.empty_like(weight) for weight in of.weights]
    torch._foreach_copy_(wide, [*gradients])
    update(of, wide, settings)
    torch._foreach_copy_([*copies], of.weights)
